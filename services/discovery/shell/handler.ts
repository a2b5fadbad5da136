import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import { whenAborted } from "#channel/abort.ts";
import {
  DiscoveryService,
  GetKeySetResponseSchema,
  GetPeerResponseSchema,
  type HelloRequest,
  HelloResponseSchema,
  type IssuedTokenSchema,
  ListPeersResponseSchema,
  RefreshResponseSchema,
  ReportDialledResponseSchema,
  ReportMisconductResponseSchema,
  ReportSessionsResponseSchema,
  SetPeerEnabledResponseSchema,
  WatchPeersResponseSchema,
} from "#gen/foedus/discovery/v1alpha1/discovery_service_pb.ts";
import { type Failure, FoedusError, fail } from "#kernel/error.ts";
import { bind, type CallContext, type Handlers, type ServiceBinding } from "#runtime/rpc/call.ts";
import type { Calls } from "#runtime/service/calls.ts";
import type { Platform } from "#runtime/service/module.ts";
import {
  dialledAt,
  dialledFromProto,
  endpointToProto,
  evidenceToProto,
  introductionOf,
  peerToProto,
  pushToProto,
  reportsFromProto,
} from "../codec.ts";
import type { DialledMember, Input, Output, Push, ServiceEndpoint } from "../messages.ts";
import { type Bundles, ownLeaf } from "../peers/hello-certificates.ts";
import type { KeyKeeper } from "./key-keeper.ts";

/** Answer is what the core says to a call. */
export type Answer = Extract<Output, { readonly call: number }>;

/** Watch is one subscriber outside of the core. */
export interface Watch {
  readonly push: (pushes: readonly Push[]) => void;
  readonly jwks: (jwks: string) => void;
  readonly end: (failure: Failure) => void;
}

/** HandlerEnv is what the handlers work with. */
export interface HandlerEnv {
  readonly platform: Platform;
  readonly keys: KeyKeeper;
  readonly bundles: Bundles;
  readonly run: Uint8Array;
  readonly ownEndpoints: () => readonly ServiceEndpoint[];
  /** held is where this hub is dialled, if it has several installations. */
  readonly held: (acting?: number) => DialledMember | undefined;
  readonly watches: Map<number, Watch>;
  readonly calls: Calls<Input, Answer>;
  readonly session: Handlers<typeof DiscoveryService>["session"];
}

/** createBinding makes the handlers of DiscoveryService. */
export function createBinding(env: HandlerEnv): ServiceBinding {
  const { platform, keys, bundles } = env;
  const peersOf = (answer: Answer) => (answer.kind === "peers" ? answer.peers.map(peerToProto) : []);
  return bind(DiscoveryService, {
    hello: (request, context) => hello(env, request, context),
    refresh: async (request, { caller }) => {
      const checked = bundles.check(caller.hubId, request.leaves, platform.clock.wall());
      const answer = await env.calls.ask((call) => ({ kind: "refresh_received", call, caller: caller.hubId, ...checked }));
      const grant = granted(answer);
      return create(RefreshResponseSchema, { level: grant.level, tokens: await issueAll(env, grant) });
    },
    getKeySet: () => create(GetKeySetResponseSchema, { jwks: keys.jwks }),
    listPeers: async () =>
      create(ListPeersResponseSchema, { peers: peersOf(await env.calls.ask((call) => ({ kind: "list", call, peer: undefined }))) }),
    getPeer: async (request) => {
      const [peer] = peersOf(await env.calls.ask((call) => ({ kind: "list", call, peer: request.hubId })));
      return create(GetPeerResponseSchema, peer === undefined ? {} : { peer });
    },
    watchPeers: (request, out, context) => watch(env, request, out, context),
    reportSessions: async (request) => {
      await env.calls.offer({ kind: "sessions", service: request.service, reports: reportsFromProto(request.service, request.reports) });
      return create(ReportSessionsResponseSchema);
    },
    reportMisconduct: async (request) => {
      await env.calls.offer({ kind: "misconduct", peer: request.hubId, service: request.service, sentence: request.sentence });
      return create(ReportMisconductResponseSchema);
    },
    reportDialled: async (request) => {
      const { voters, confirmed } = request;
      await env.calls.offer({ kind: "dialled", members: dialledFromProto(request.members), voters, confirmed });
      return create(ReportDialledResponseSchema);
    },
    getDialled: async ({ held }, { caller }) => {
      // A process of this installation is served by this one, which acts as long as it runs.
      if (caller.kind === "service") return dialledAt(env.held(held?.acts === true ? Number(held.fence) : undefined));
      const answer = await env.calls.ask((call) => ({ kind: "ask_dialled", call, caller: caller.hubId }));
      return dialledAt(answer.kind === "dialled_at" ? answer.member : undefined);
    },
    setPeerEnabled: async (request) => {
      const [peer] = peersOf(await env.calls.ask((call) => ({ kind: "set_enabled", call, peer: request.hubId, enabled: request.enabled })));
      return create(SetPeerEnabledResponseSchema, peer === undefined ? {} : { peer });
    },
    session: env.session,
  });
}

/** watch tells a service of this hub about the peers, until it has enough or is too slow. */
const watch = async (
  env: HandlerEnv,
  ...[request, out, context]: Parameters<Handlers<typeof DiscoveryService>["watchPeers"]>
): Promise<void> => {
  const { platform, keys } = env;
  const leaf = ownLeaf(platform.hubId, request.leaf);
  const { calls } = env;
  const watch = calls.id();
  const over = Promise.withResolvers<Failure | undefined>();
  const send = (push: MessageInitShape<typeof WatchPeersResponseSchema>["push"]): boolean =>
    out.send(create(WatchPeersResponseSchema, push === undefined ? {} : { push }));
  whenAborted(context.signal, () => over.resolve(undefined));
  env.watches.set(watch, {
    push: (pushes) => {
      if (!pushes.every((push) => send(pushToProto(push, request.service)))) return over.resolve(undefined);
      void out.drained().then(() => calls.tell({ kind: "watch_ready", watch }, `watch_ready ${watch}`));
    },
    jwks: (jwks) => void send({ case: "jwks", value: jwks }),
    end: over.resolve,
  });
  try {
    send({ case: "jwks", value: keys.jwks });
    await calls.offer({ kind: "watch", watch, services: [request.service, ...request.also], leaf });
    const failure = await over.promise;
    if (failure !== undefined) throw new FoedusError(failure);
  } finally {
    env.watches.delete(watch);
    calls.tell({ kind: "watch_end", watch });
  }
};

async function hello(env: HandlerEnv, request: HelloRequest, { caller, remote }: CallContext) {
  const { platform, bundles, ownEndpoints } = env;
  const checked = bundles.check(caller.hubId, request.leaves, platform.clock.wall());
  const answer = await env.calls.ask((call) => ({
    kind: "hello_received",
    call,
    caller: caller.hubId,
    address: remote,
    from: introductionOf(request),
    ...checked,
  }));
  const grant = granted(answer);
  return create(HelloResponseSchema, {
    hubId: platform.hubId,
    incarnation: BigInt(platform.incarnation),
    software: platform.software,
    packages: [...platform.packages],
    endpoints: ownEndpoints().map(endpointToProto),
    tokens: await issueAll(env, grant),
    level: grant.level,
    evidence: grant.evidence.map(evidenceToProto),
    wallMs: BigInt(Math.round(platform.clock.wall())),
    run: env.run,
    fence: BigInt(env.held()?.fence ?? 0),
    copies: [...grant.copies],
  });
}

function granted(answer: Answer): Extract<Output, { kind: "grant" }> {
  if (answer.kind !== "grant") throw fail("INTERNAL", "discovery answered something else");
  return answer;
}

/** issueAll signs a token for each certificate; none for a hub without a level. */
async function issueAll(
  { keys }: HandlerEnv,
  { peer, level, leaves }: Extract<Output, { kind: "grant" }>,
): Promise<MessageInitShape<typeof IssuedTokenSchema>[]> {
  if (level < 1) return [];
  return Promise.all(
    leaves.map(async (thumbprint) => {
      const issued = await keys.issue(peer, thumbprint, level);
      return { thumbprint, jwt: issued.jwt, expiresInMs: BigInt(Math.round(issued.expiresAtWall - issued.issuedAtWall)) };
    }),
  );
}
