// The console's page in a real Chromium, at real hubs.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Node, NodeSchema } from "#gen/foedus/common/v1/node_pb.ts";
import { ValueType } from "#gen/foedus/common/v1/value_pb.ts";
import { buildPage, PAGE_DIR } from "../../console/build.ts";
import { attach, deregister, lamp, number, register, text, update } from "../support/acts.ts";
import { CHROMIUM, foedusAt, launch, linkOf, originOf, type Visit, visit, withConsole } from "../support/console-page.ts";
import { type Clients, Federation, type HubProcess, ROOT, until } from "../support/federation.ts";

const AXE = readFileSync(join(ROOT, "node_modules/axe-core/axe.min.js"), "utf8");
const EVIL = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202egnp.exe\u0007';
/** A busy machine is no fault of the page. */
const SOON = { timeout: 15_000 };
const VIEWS = ["Nodes", "Map", "Events", "Feeds and links", "Coordination"] as const;

/** hostile is a device whose texts are all such as to break a page that takes them for HTML. */
function hostile(): Node {
  return create(NodeSchema, {
    nodeId: "evil",
    name: EVIL,
    type: EVIL,
    vendor: EVIL,
    description: EVIL,
    labels: { [`l${EVIL}`.slice(0, 60)]: EVIL },
    capabilities: [
      { name: EVIL, type: ValueType.STRING, readable: true, invocable: true, allowed: [EVIL, "ok"], unit: "<b>u</b>", description: EVIL },
      { name: "__proto__", type: ValueType.SINT64, readable: true, invocable: true, min: -5, max: 5 },
    ],
  });
}

describe.skipIf(CHROMIUM.reason !== undefined)("the console's page", () => {
  let federation: Federation;
  let home: HubProcess;
  let factory: HubProcess;
  let near: Clients;
  let far: Clients;
  let browser: Browser;
  const visits: Visit[] = [];

  /** open logs a browser of its own in. */
  async function open(who: "admin" | "viewer", dark = false): Promise<Visit> {
    const made = await visit(browser, dark);
    visits.push(made);
    await made.page.goto(await linkOf(home, who));
    await made.page.getByRole("heading", { name: "Nodes" }).waitFor();
    return made;
  }
  const go = ({ page }: Visit, view: string): Promise<void> => page.getByRole("link", { name: view, exact: true }).click();
  const chooseNode = async ({ page }: Visit, node: string): Promise<void> => {
    await page.getByLabel("Id begins with").fill(node);
    await page.getByRole("option", { name: new RegExp(`/${node}`) }).click();
    await page.getByText("Capabilities and state").waitFor();
  };

  beforeAll(async () => {
    await buildPage(PAGE_DIR);
    federation = await Federation.prepare({
      hubs: [
        { id: "home", peers: [{ hub: "factory" }] },
        { id: "factory", peers: [{ hub: "home" }] },
      ],
    });
    [home, factory] = [federation.hub("home"), federation.hub("factory")];
    withConsole(home);
    await Promise.all([home.start(), factory.start()]);
    await federation.operational();
    [near, far] = [home.clients("gateway-zigbee"), factory.clients("gateway-zigbee")];
    await register(near, lamp("near-lamp"), ...Array.from({ length: 250 }, (_, i) => lamp(`many-${String(i).padStart(3, "0")}`)));
    await register(far, lamp("far-lamp"), hostile());
    await update(far, "far-lamp", { state: text("OFF"), brightness: number(20) });
    await update(far, "evil", { [EVIL]: text(EVIL) });
    attach(near, ["near-lamp"]);
    attach(far, ["far-lamp", "evil"]);
    browser = await launch();
  }, 120_000);
  afterEach(async () => {
    for (const { context } of visits.splice(0)) await context.close();
  });
  afterAll(async () => {
    await browser?.close();
    await federation?.stop();
  });

  test("a link logs in once; the page asks for nothing from elsewhere, and leaves no secret in its address", async () => {
    const made = await visit(browser);
    const link = await linkOf(home, "admin");
    await made.page.goto(link);
    await made.page.getByRole("heading", { name: "Nodes" }).waitFor();
    expect(made.page.url()).toBe(`${originOf(home)}/`);
    expect(made.asked.filter((url) => !url.startsWith(originOf(home)))).toEqual([]);
    expect(await made.page.evaluate("document.cookie")).toBe("");
    const second = await visit(browser);
    await second.page.goto(link);
    await second.page.getByText("This link was used before or is too old.").waitFor();
    await second.page.goto(`${originOf(home)}/`);
    await second.page.getByText("You are not logged in.").waitFor();
    await made.page.getByRole("button", { name: "Log out" }).click();
    await made.page.getByText("You are not logged in.").waitFor();
    await Promise.all([made.context.close(), second.context.close()]);
  });

  test("an admin switches a lamp of another hub from the form, and sees its state change", async () => {
    const made = await open("admin");
    await chooseNode(made, "far-lamp");
    const state = made.page.locator("tr[data-key=state] td").first();
    await expect.poll(() => state.textContent(), SOON).toBe("OFF");
    await made.page.getByLabel("state", { exact: true }).selectOption("ON");
    await made.page.getByRole("button", { name: "Send state" }).click();
    await made.page.getByRole("form", { name: "Command state" }).getByText("done").waitFor();
    await expect.poll(() => state.textContent(), SOON).toBe("ON");
    // The list shows it too, and so does what nobody asked for.
    await made.page.getByRole("option", { name: /state ON/ }).waitFor();
    await update(far, "far-lamp", { state: text("OFF") });
    await expect.poll(() => state.textContent(), SOON).toBe("OFF");
    await made.page.getByRole("option", { name: /state OFF/ }).waitFor();
    expect(made.complaints).toEqual([]);
  });

  test("what a capability does not take is said before it is sent, and what the hub refuses after", async () => {
    const made = await open("admin");
    await chooseNode(made, "far-lamp");
    const form = made.page.getByRole("form", { name: "Command brightness" });
    await form.getByLabel("brightness").fill("255");
    await form.getByRole("button").click();
    await form.getByText("The value must be at most 254.").waitFor();
    expect(made.asked.filter((url) => url.endsWith("/Execute"))).toEqual([]);
    // The device goes away: what is shown of it is the hub's answer.
    await chooseNode(made, "many-000");
    await made.page.getByRole("button", { name: "Send state" }).click();
    await made.page.getByRole("form", { name: "Command state" }).getByText("rejected").waitFor();
  });

  test("a viewer sees all and is offered no command", async () => {
    const made = await open("viewer");
    await chooseNode(made, "far-lamp");
    await made.page.getByText("A viewer looks only").waitFor();
    expect(await made.page.getByRole("form").count()).toBe(0);
    // Were it offered, the hub would refuse.
    const status = await made.page.evaluate(`fetch("/foedus.command_forwarding.v1alpha1.CommandForwardingService/Execute", {
      method: "POST", headers: { "content-type": "application/json", "x-foedus-console": "1" },
      body: JSON.stringify({ command: { target: { hubId: "factory", nodeId: "far-lamp" }, capability: "state", value: { stringValue: "ON" } } }),
    }).then((answer) => answer.status)`);
    expect(status).toBe(403);
    expect(made.complaints.filter((line) => !line.includes("403"))).toEqual([]);
  });

  test("names that are HTML, scripts or reversed are text, with nothing hidden", async () => {
    const made = await open("admin");
    await chooseNode(made, "evil");
    const heading = await made.page.getByRole("heading", { level: 2 }).last().textContent();
    expect(heading).toBe('"><img src=x onerror=alert(1)><script>alert(2)</script>\\u{202e}gnp.exe\\u{7}');
    const row = made.page.locator("tr", { hasText: "\\u{202e}" }).first();
    await row.getByText("<b>u</b>").waitFor();
    await made.page.locator("form.command").first().getByRole("button").click();
    await made.page.locator("form.command").first().getByText("done").waitFor();
    for (const view of VIEWS) {
      await go(made, view);
      await made.page.waitForLoadState("networkidle", { timeout: 500 }).catch(() => undefined);
    }
    expect(await made.page.locator("img, iframe, b, main script").count()).toBe(0);
    expect(made.complaints).toEqual([]);
  });

  test("the map, events, links and coordination show what there is, live", async () => {
    const made = await open("admin");
    await go(made, "Map");
    await made.page.getByRole("button", { name: "factory" }).click();
    await made.page.getByText("full here, full there").first().waitFor();
    await go(made, "Feeds and links");
    await made.page.getByText("factory: has all").waitFor();
    await made.page.locator(".uplot canvas").first().waitFor();
    await go(made, "Events");
    await made.page.getByText("Live.").waitFor();
    await register(near, lamp("late-lamp"));
    await made.page.getByRole("listitem").filter({ hasText: "home/late-lamp" }).first().waitFor();
    await made.page.getByLabel("Kind").selectOption("link state");
    await expect.poll(() => made.page.getByRole("listitem").filter({ hasText: "home/late-lamp" }).count(), SOON).toBe(0);
    await deregister(near, "late-lamp");
    await go(made, "Coordination");
    await made.page.getByText("takes part in no federation").waitFor();
    expect(made.complaints).toEqual([]);
  });

  test("a federation that decides together is shown with its members and what they vote on", async () => {
    await foedusAt(home, "admin", "federation", "found", "street", "--with", "factory");
    await foedusAt(factory, "admin", "federation", "join", "street");
    await until("the federation deciding", async () =>
      (await foedusAt(home, "admin", "federation", "propose", "policy", "ballot_ms", "600000")).includes("is open"),
    );
    const made = await open("admin");
    await go(made, "Coordination");
    await made.page.getByText("can decide").waitFor();
    const ballot = made.page.getByRole("row").filter({ hasText: "federation policy" });
    await ballot.getByText("home: approve").waitFor();
    const id = (await ballot.getByRole("rowheader").textContent()) ?? "";
    await foedusAt(factory, "admin", "federation", "vote", id, "approve");
    await ballot.getByText("factory: approve").waitFor();
    await ballot.getByText("approved").waitFor();
    expect(made.complaints).toEqual([]);
  });

  test("a long list draws only what is seen, and is walked with the keyboard alone", async () => {
    const { page } = await open("admin");
    await page.getByLabel("Id begins with").fill("many-");
    const count = page.getByRole("region", { name: "Nodes" }).getByRole("status");
    await expect.poll(() => count.textContent(), SOON).toMatch(/^250 nodes, the first 100 loaded/);
    expect(await page.getByRole("option").count()).toBeLessThan(40);
    await page.getByRole("listbox").focus();
    await page.keyboard.press("End");
    await page.getByText("the first 200 loaded").waitFor();
    await page.keyboard.press("End");
    await expect.poll(() => page.getByText("250 nodes").textContent(), SOON).toBe("250 nodes");
    await page.keyboard.press("End");
    await page.getByRole("heading", { name: "Lamp many-249" }).waitFor();
    await page.keyboard.press("Home");
    await page.keyboard.press("ArrowDown");
    await page.getByRole("heading", { name: "Lamp many-001" }).waitFor();
    expect(await page.getByRole("listbox", { name: "Nodes" }).getByRole("option", { selected: true }).getAttribute("aria-posinset")).toBe(
      "2",
    );
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("detail-title");
  });

  test.each([false, true])("axe finds nothing wrong in any view (dark: %s)", async (dark) => {
    const made = await open("admin", dark);
    await chooseNode(made, "far-lamp");
    for (const view of VIEWS) {
      await go(made, view);
      await made.page.locator("main h2").first().waitFor();
      // Evaluated by the debugger, as the policy lets no script in.
      await made.page.evaluate(AXE);
      const found = (await made.page.evaluate("axe.run()")) as {
        readonly violations: readonly { id: string; nodes: { html: string }[] }[];
      };
      expect([view, found.violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])]).toEqual([view, []]);
    }
  });

  test("a hub that is gone is said to be, and found again; the session was the old process's", async () => {
    const made = await open("admin");
    await chooseNode(made, "far-lamp");
    near.close();
    await home.end("SIGKILL");
    await made.page.getByText("The hub does not answer.").waitFor();
    await home.start();
    await made.page.getByText("The session has ended.").waitFor();
    // The new link is opened in the same tab.
    await made.page.goto(await linkOf(home, "admin"));
    await made.page.getByText(/^25\d nodes/).waitFor();
  });

  test("a hub that is frozen is said to be gone, and goes on where it was", async () => {
    const made = await open("admin");
    await chooseNode(made, "near-lamp");
    const pid = home.pids.get("hub")!;
    process.kill(pid, "SIGSTOP");
    try {
      await made.page.getByText("The hub does not answer.").waitFor({ timeout: 30_000 });
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await until("the page being connected again", async () => (await made.page.getByText("The hub does not answer.").count()) === 0);
    await made.page.getByText("Capabilities and state").waitFor();
  }, 90_000);
});
