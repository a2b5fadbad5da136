import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { type CallError, call, onStanding, type Standing } from "./api.ts";
import { EventsView } from "./events/events.tsx";
import { FlowView } from "./flow/flow.tsx";
import { useTraffic } from "./flow/traffic.ts";
import { MapView } from "./map/map.tsx";
import { NodesView } from "./nodes/nodes.tsx";
import { Name } from "./parts.tsx";
import { asCallError } from "./poll.ts";
import { shown } from "./text.ts";
import { TogetherView } from "./together/together.tsx";
import type { Me } from "./types.ts";

const VIEWS = [
  ["nodes", "Nodes"],
  ["map", "Map"],
  ["events", "Events"],
  ["flow", "Feeds and links"],
  ["together", "Coordination"],
] as const;
type View = (typeof VIEWS)[number][0];

function viewIn(hash: string): View {
  return VIEWS.find(([id]) => hash === `#${id}`)?.[0] ?? "nodes";
}

/** logIn uses the link in the address up: it is taken out of the address before anything else happens. */
async function logIn(): Promise<Me> {
  const link = /^#login=([\w-]+)$/.exec(location.hash)?.[1];
  if (link !== undefined) {
    history.replaceState(null, "", "/");
    await call("login", { link });
  }
  return call<Me>("me");
}

function Door({ error }: { readonly error: CallError }) {
  const used = /link/.test(error.message) && error.code === "unauthenticated" && !/log in first/.test(error.message);
  return (
    <main class="door">
      <h1>Foedus</h1>
      <p role="alert">
        {used
          ? "This link was used before or is too old."
          : error.code === "unauthenticated"
            ? "You are not logged in."
            : `The hub does not let this page in: ${shown(error.message)}`}
      </p>
      <p>
        Print a link with <code>foedus console</code> and open it within a minute.
      </p>
    </main>
  );
}

function Banner({ standing }: { readonly standing: Standing }) {
  return (
    <div role="status" class={standing === "connected" ? "quiet" : "lost"}>
      {standing === "lost" ? "The hub does not answer. What is shown may be out of date; trying again …" : ""}
      {standing === "out" ? "The session has ended. Print another link with: foedus console" : ""}
    </div>
  );
}

function Page({ me }: { readonly me: Me }) {
  const [view, setView] = useState<View>(viewIn(location.hash));
  const [standing, setStanding] = useState<Standing>("connected");
  const traffic = useTraffic();
  useEffect(() => onStanding(setStanding), []);
  useEffect(() => {
    const follow = (): void => setView(viewIn(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => {
    document.title = `${shown(me.hubId)}: ${VIEWS.find(([id]) => id === view)?.[1]} – Foedus`;
  }, [view, me]);
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <header>
        <h1>
          <Name text={me.hubId} />
        </h1>
        <nav aria-label="Views">
          {VIEWS.map(([id, title]) => (
            <a key={id} href={`#${id}`} aria-current={id === view ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
        <p class="who">
          <Name text={me.name} /> ({me.admin ? "admin" : "viewer, looks only"}){" "}
          <button type="button" onClick={() => void call("logout").finally(() => location.reload())}>
            Log out
          </button>
        </p>
      </header>
      <Banner standing={standing} />
      <main id="main" tabIndex={-1} class={`view-${view}`}>
        {view === "nodes" ? <NodesView me={me} /> : null}
        {view === "map" ? <MapView me={me} traffic={traffic} /> : null}
        {view === "events" ? <EventsView /> : null}
        {view === "flow" ? <FlowView traffic={traffic} /> : null}
        {view === "together" ? <TogetherView /> : null}
      </main>
    </>
  );
}

// A link that is opened where the page is already loads nothing by itself: only what is behind the # changes.
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#login=")) location.reload();
});

const root = document.getElementById("app");
if (root !== null) {
  logIn().then(
    (me) => {
      root.replaceChildren();
      render(<Page me={me} />, root);
    },
    (error: unknown) => {
      root.replaceChildren();
      render(<Door error={asCallError(error)} />, root);
    },
  );
}
