import {
  isCallExpression,
  isConstructorDeclaration,
  isFunctionLikeDeclaration,
  isPropertyAssignment,
  isPropertyDeclaration,
  isVariableDeclaration,
  type Node,
  type SourceFile,
} from "typescript/unstable/ast";
import { createVirtualFileSystem } from "typescript/unstable/fs";
import { API } from "typescript/unstable/sync";

/** Func is a function, method, accessor, constructor or arrow function that has a body. A class is none. */
export interface Func {
  readonly name: string;
  /** Line of its name, counted from 1. */
  readonly line: number;
  /** Lines from its name to its end, those of the functions inside it included, its docstring not. */
  readonly lines: number;
}

/** parsed gives files as TypeScript reads them. Nothing that they import is looked at. */
function parsed<T>(texts: ReadonlyMap<string, string>, use: (path: string, file: SourceFile) => T): T[] {
  const config = { files: [...texts.keys()], compilerOptions: { noLib: true, noResolve: true, types: [] } };
  const entries = [...texts].map(([path, text]) => [`/house/${path}`, text] as const);
  const fs = createVirtualFileSystem(Object.fromEntries([["/house/tsconfig.json", JSON.stringify(config)], ...entries]));
  const api = new API({ cwd: "/house", fs });
  try {
    const [project] = api.updateSnapshot({ openProjects: ["/house/tsconfig.json"] }).getProjects();
    return [...texts.keys()].map((path) => {
      const file = project?.program.getSourceFile(`/house/${path}`);
      if (file === undefined) throw new Error(`${path} was not read`);
      return use(path, file);
    });
  } finally {
    api.close();
  }
}

/** nameOf is what a function is called where it stands, or what it is handed to. */
function nameOf(node: Node, file: SourceFile): string {
  if (!isFunctionLikeDeclaration(node)) return "";
  if ("name" in node && node.name !== undefined) return node.name.getText(file);
  const { parent } = node;
  if (isVariableDeclaration(parent) || isPropertyAssignment(parent) || isPropertyDeclaration(parent)) return parent.name.getText(file);
  if (isCallExpression(parent)) return `${parent.expression.getText(file).split("\n", 1)[0]}(…)`;
  return isConstructorDeclaration(node) ? "constructor" : "a function without a name";
}

function functionsOf(file: SourceFile): Func[] {
  const found: Func[] = [];
  const lineAt = (position: number): number => file.getLineAndCharacterOfPosition(position).line + 1;
  const visit = (node: Node): void => {
    if (isFunctionLikeDeclaration(node) && node.body !== undefined) {
      const line = lineAt(node.getStart(file));
      found.push({ name: nameOf(node, file), line, lines: lineAt(node.end) - line + 1 });
    }
    node.forEachChild(visit);
  };
  visit(file);
  return found;
}

/** functionsIn lists the functions of some files, those inside others too. */
export function functionsIn(texts: ReadonlyMap<string, string>): Map<string, Func[]> {
  return new Map(parsed(texts, (path, file) => [path, functionsOf(file)] as const));
}
