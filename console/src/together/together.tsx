import { call, RPC } from "../api.ts";
import { Badge, Name, Problem, Table } from "../parts.tsx";
import { usePoll } from "../poll.ts";
import { ageText, shown, timeText, wordOf } from "../text.ts";
import type { Allocation, Ballot, Federation, Migration } from "./types.ts";

/** How often is asked, ms. */
const LOOK_MS = 3_000;

interface Answers {
  readonly federation: Federation;
  readonly ballots: readonly Ballot[];
  readonly allocations: readonly Allocation[];
  readonly migrations: readonly Migration[];
}

/** One after the other: a browser has six connections to a hub for all its pages. Only the first page of each is shown. */
async function ask(signal: AbortSignal): Promise<Answers> {
  const federation = await call<Federation>(RPC.federation, {}, { signal });
  if (federation.state !== "FEDERATION_STATE_MEMBER") return { federation, ballots: [], allocations: [], migrations: [] };
  const { ballots = [] } = await call<{ ballots?: readonly Ballot[] }>(RPC.listBallots, {}, { signal });
  const { allocations = [] } = await call<{ allocations?: readonly Allocation[] }>(RPC.listAllocations, {}, { signal });
  const { migrations = [] } = await call<{ migrations?: readonly Migration[] }>(RPC.listMigrations, {}, { signal });
  return { federation, ballots, allocations, migrations };
}

/** TogetherView is what the hubs of the federation decide and lend. */
export function TogetherView() {
  const { data, error } = usePoll(ask, LOOK_MS, []);
  return (
    <>
      <h2>Coordination</h2>
      <Problem error={error?.code === "unreachable" ? undefined : error} />
      {data === undefined ? null : <Members federation={data.federation} />}
      {data === undefined || data.federation.state !== "FEDERATION_STATE_MEMBER" ? null : (
        <>
          <Ballots ballots={data.ballots} />
          <Loans allocations={data.allocations} />
          <Migrations migrations={data.migrations} />
        </>
      )}
    </>
  );
}

function Members({ federation }: { readonly federation: Federation }) {
  const { state, name, federationId, engine, role, leader, canDecide, problem, members = [], committed, applied } = federation;
  if (state !== "FEDERATION_STATE_MEMBER")
    return <p>This hub takes part in no federation that decides together ({wordOf("FEDERATION_STATE_", state, "none")}).</p>;
  return (
    <div class="card">
      <h3>
        <Name text={name === "" || name === undefined ? federationId : name} />{" "}
        <Badge tone={canDecide === true ? "good" : "bad"}>{canDecide === true ? "can decide" : "cannot decide"}</Badge>
      </h3>
      <p>
        {shown(engine)}, this hub is {wordOf("LOG_ROLE_", role)}; leader <Name text={leader ?? "unknown"} />; position {applied ?? 0} of{" "}
        {committed ?? 0}.
      </p>
      {problem === undefined || problem === "" ? null : <p class="problem">{shown(problem)}</p>}
      <Table caption="Members" heads={["Hub", "Votes", "Contact"]}>
        {members.map(({ hubId, voter, weight = 0, failed, inContact }) => (
          <tr key={hubId}>
            <th scope="row">
              <Name text={hubId} />
            </th>
            <td>{voter === true ? `yes, weight ${weight}` : "no"}</td>
            <td>
              {failed === true ? (
                <Badge tone="bad">failed</Badge>
              ) : (
                <Badge tone={inContact === true ? "good" : "warn"}>{inContact === true ? "in contact" : "not in contact"}</Badge>
              )}
            </td>
          </tr>
        ))}
      </Table>
    </div>
  );
}

function Ballots({ ballots }: { readonly ballots: readonly Ballot[] }) {
  return (
    <div class="card">
      <Table caption="Ballots" heads={["Ballot", "Subject", "Proposed by", "Why", "Votes", "Result"]}>
        {ballots.map(({ opening, votes = [], result }) => (
          <tr key={opening?.proposal?.ballotId}>
            <th scope="row">
              <Name text={opening?.proposal?.ballotId} />
            </th>
            <td>{wordOf("BALLOT_SUBJECT_", opening?.proposal?.subject)}</td>
            <td>
              <Name text={opening?.proposal?.proposer} />
            </td>
            <td>
              <Name text={opening?.proposal?.reasoning} />
            </td>
            <td>
              {votes.map(({ statement }) => (
                <div key={statement?.hubId}>
                  <Name text={statement?.hubId} />: {wordOf("BALLOT_VOTE_", statement?.vote)}
                </div>
              ))}
            </td>
            <td>{wordOf("BALLOT_RESULT_", result, `open until ${timeText(Number(opening?.deadline ?? 0))}`)}</td>
          </tr>
        ))}
      </Table>
      {ballots.length === 0 ? <p class="soft">There are no ballots.</p> : null}
    </div>
  );
}

function Loans({ allocations }: { readonly allocations: readonly Allocation[] }) {
  return (
    <div class="card">
      <Table caption="Loans" heads={["Number", "Owner", "Borrower", "Resource", "State", "Left"]}>
        {allocations.map(({ lease, remainingMs }) => (
          <tr key={lease?.lease}>
            <th scope="row">{shown(lease?.lease)}</th>
            <td>
              <Name text={lease?.owner} />
            </td>
            <td>
              <Name text={lease?.borrower} />
            </td>
            <td>
              <Name text={lease?.name} />
            </td>
            <td>{wordOf("LEASE_STATE_", lease?.state)}</td>
            <td>{ageText(Number(remainingMs ?? 0))}</td>
          </tr>
        ))}
      </Table>
      {allocations.length === 0 ? <p class="soft">Nothing is lent.</p> : null}
    </div>
  );
}

function Migrations({ migrations }: { readonly migrations: readonly Migration[] }) {
  return (
    <div class="card">
      <Table caption="Migrations of agents" heads={["Number", "Agent", "From", "To", "Step", "Status"]}>
        {migrations.map(({ transfer, agent, from, to, step, status, message }) => (
          <tr key={transfer}>
            <th scope="row">{shown(transfer)}</th>
            <td>
              <Name text={agent} />
            </td>
            <td>
              <Name text={from} />
            </td>
            <td>
              <Name text={to} />
            </td>
            <td>{wordOf("MIGRATION_STEP_", step)}</td>
            <td>
              {wordOf("MIGRATION_STATUS_", status)} <Name text={message} />
            </td>
          </tr>
        ))}
      </Table>
      {migrations.length === 0 ? <p class="soft">No agent has moved.</p> : null}
    </div>
  );
}
