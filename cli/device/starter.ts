// Programs to begin with: a device in TypeScript or in Python that registers, reports its state and does what it is told.

/** LANGUAGES are those that `node add` writes programs in, with the endings of their files. The program in TypeScript has no types, and an .mjs is a module wherever it lies. */
export const LANGUAGES = { typescript: "mjs", python: "py" } as const;

/** Language is one of them. */
export type Language = keyof typeof LANGUAGES;

/** isLanguage tells whether a text names one. */
export function isLanguage(text: string): text is Language {
  return Object.hasOwn(LANGUAGES, text);
}

/** Starter is what a program has to know. */
export interface Starter {
  readonly nodeId: string;
  /** One address, or that of each service. */
  readonly address: string | Readonly<Record<string, string>>;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** What a program in TypeScript imports: the package, or the file of a checkout. */
  readonly sdk: string;
}

/** starterOf writes the program. */
export function starterOf(language: Language, starter: Starter): string {
  return language === "python" ? python(starter) : typescript(starter);
}

function typescript({ nodeId, address, ca, cert, key, sdk }: Starter): string {
  const [id, text] = [JSON.stringify(nodeId), JSON.stringify];
  const options = Object.entries({ address, ca, cert, key }).map(([name, value]) => `${name}: ${text(value)}`);
  return `import { Hub, VALUE_TYPE } from ${text(sdk)};

const hub = await Hub.connect({ ${options.join(", ")} });
const state = { name: "state", type: VALUE_TYPE.STRING, allowed: ["ON", "OFF"], readable: true, invocable: true };
const updater = hub.updater({ nodes: [{ nodeId: ${id}, type: "light", capabilities: [state] }] });
updater.set(${id}, "state", "OFF");
hub.serve({
  nodeIds: [${id}],
  run: ({ value, callerHubId }) => {
    console.log(\`\${value}, by \${callerHubId}\`); // switch the real thing here
    updater.set(${id}, "state", String(value));
    return { value };
  },
});
`;
}

function python({ nodeId, address, ca, cert, key }: Starter): string {
  const [id, text] = [JSON.stringify(nodeId), JSON.stringify];
  const at = typeof address === "string" ? text(address) : text(Object.entries(address).map(([service, where]) => `${service}=${where}`));
  return `import foedus

node = foedus.Node(node_id=${id}, type="light", capabilities=[
    foedus.capability("state", str, allowed=["ON", "OFF"], invocable=True),
])

def run(task):
    print(f"{task.value}, by {task.caller_hub_id}", flush=True)  # switch the real thing here
    updates.set(${id}, "state", task.value)

with foedus.Hub.connect(${at}, ca=${text(ca)}, cert=${text(cert)}, key=${text(key)}) as hub:
    with hub.updates(node) as updates, hub.executor([${id}], run) as executor:
        updates.set(${id}, "state", "OFF")
        executor.wait()
`;
}
