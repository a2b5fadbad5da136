/** The page of the console, as it is until there is more of one: who is logged in, the modules of the hub, and its peers. */

const INDEX = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Foedus</title>
<link rel="stylesheet" href="/style.css">
<script type="module" src="/app.js"></script>
</head>
<body>
<header><h1>Foedus</h1><button id="logout" hidden>Log out</button></header>
<main>
<p id="message" role="status">Loading …</p>
<section aria-labelledby="modules-title" hidden><h2 id="modules-title">Modules</h2><ul id="modules"></ul></section>
<section aria-labelledby="peers-title" hidden><h2 id="peers-title">Peers</h2><ul id="peers"></ul></section>
</main>
</body>
</html>
`;

const STYLE = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
header { display: flex; justify-content: space-between; align-items: center; }
`;

/** Names come from other hubs and devices: they are put in as text, never as HTML. */
const APP = `const headers = { "content-type": "application/json", "x-foedus-console": "1" };
const post = (path, body) => fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
const find = (id) => document.getElementById(id);
const say = (text) => { find("message").textContent = text; };

async function call(rpc, request = {}) {
  const answer = await post("/" + rpc, request);
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.message), { code: body.code });
  return body;
}

function list(id, lines) {
  const items = lines.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  find(id).replaceChildren(...items);
  find(id).parentElement.hidden = false;
}

async function show() {
  const status = await call("foedus.hub.v1alpha1.HubService/GetStatus");
  const { peers = [] } = await call("foedus.discovery.v1alpha1.DiscoveryService/ListPeers");
  document.title = status.hubId + " – Foedus";
  say(status.hubId + ", version " + status.software);
  list("modules", (status.modules ?? []).map(({ name, ready, reason }) => name + ": " + (ready ? "ready" : reason || "not ready")));
  list("peers", peers.map(({ hubId, state }) => hubId + ": " + (state ?? "").replace("LINK_STATE_", "").toLowerCase()));
  find("logout").hidden = false;
}

async function begin() {
  const link = /^#login=([\\w-]+)$/.exec(location.hash)?.[1];
  if (link !== undefined) {
    // The link is used up: it is taken out of the address before anything else happens.
    history.replaceState(null, "", "/");
    const answer = await post("/login", { link });
    if (!answer.ok) return say("This link was used before or is too old. Print another one with: foedus console");
  }
  await show();
}

find("logout").addEventListener("click", async () => {
  await post("/logout", {});
  location.reload();
});
begin().catch((error) => say(error.code === "unauthenticated" ? "Not logged in. Print a link with: foedus console" : error.message));
`;

/** FILES are what is served to anybody: there is nothing of the hub in it. */
export const FILES: ReadonlyMap<string, { readonly type: string; readonly body: string }> = new Map([
  ["/", { type: "text/html; charset=utf-8", body: INDEX }],
  ["/app.js", { type: "text/javascript; charset=utf-8", body: APP }],
  ["/style.css", { type: "text/css; charset=utf-8", body: STYLE }],
]);

/** PAGE_HEADERS keep a browser from doing more than the page needs: nothing from elsewhere, nothing inline, in no frame, told to nobody. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "cache-control": "no-store",
};
