/** Federation is how this hub stands to a federation. */
export interface Federation {
  readonly state?: string;
  readonly federationId?: string;
  readonly name?: string;
  readonly engine?: string;
  readonly role?: string;
  readonly leader?: string;
  readonly committed?: string;
  readonly applied?: string;
  readonly canDecide?: boolean;
  readonly problem?: string;
  readonly members?: readonly {
    readonly hubId: string;
    readonly voter?: boolean;
    readonly weight?: number;
    readonly failed?: boolean;
    readonly inContact?: boolean;
  }[];
}

/** Ballot is what is voted on. */
export interface Ballot {
  readonly opening?: {
    readonly proposal?: {
      readonly ballotId?: string;
      readonly proposer?: string;
      readonly subject?: string;
      readonly reasoning?: string;
    };
    readonly deadline?: string;
  };
  readonly votes?: readonly { readonly statement?: { readonly hubId?: string; readonly vote?: string } }[];
  readonly result?: string;
}

/** Allocation is what one hub lends another. */
export interface Allocation {
  readonly lease?: {
    readonly lease?: string;
    readonly owner?: string;
    readonly borrower?: string;
    readonly name?: string;
    readonly state?: string;
  };
  readonly remainingMs?: string;
}

/** Migration is an agent on its way. */
export interface Migration {
  readonly transfer?: string;
  readonly agent?: string;
  readonly from?: string;
  readonly to?: string;
  readonly step?: string;
  readonly status?: string;
  readonly message?: string;
}
