import type { BallotCommand, BallotNews } from "../ballots/messages.ts";
import type { MemberCommand, MemberNews } from "../members/messages.ts";
import type { MigrationCommand, MigrationNews } from "../migration/messages.ts";
import type { ResourceCommand, ResourceNews } from "../resources/commands.ts";
import type { ValueChanged, ValueCommand } from "../values/messages.ts";

/**
 * LogCommand is what a hub can have decided, by the book that carries it out. `clock` only lets log time pass: the leader writes it when
 * something is due and nobody writes anything else.
 */
export type LogCommand =
  | { readonly book: "values"; readonly command: ValueCommand }
  | { readonly book: "members"; readonly command: MemberCommand }
  | { readonly book: "ballots"; readonly command: BallotCommand }
  | { readonly book: "resources"; readonly command: ResourceCommand }
  | { readonly book: "migration"; readonly command: MigrationCommand }
  | { readonly book: "clock" };

/** News is something that became known by an entry of the log, by the book that says it. */
export type News =
  | { readonly book: "values"; readonly news: ValueChanged }
  | { readonly book: "members"; readonly news: MemberNews }
  | { readonly book: "ballots"; readonly news: BallotNews | Fruitless }
  | { readonly book: "resources"; readonly news: ResourceNews }
  | { readonly book: "migration"; readonly news: MigrationNews };

/** Fruitless tells that what a ballot approved could not be carried out, as the federation had changed since it opened. */
export interface Fruitless {
  readonly kind: "fruitless";
  readonly ballotId: string;
  readonly message: string;
}

/** CommandCodec writes and reads commands; reading throws what a caller made of bytes that are no command. */
export interface CommandCodec {
  write(command: LogCommand): Uint8Array;
  read(bytes: Uint8Array): LogCommand;
}
