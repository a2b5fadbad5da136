/** The JSON of the messages that the page reads, as the schema writes it: what has its default is left out, 64-bit numbers are strings. */

/** Value is a typed value. */
export interface Value {
  readonly boolValue?: boolean;
  readonly intValue?: string;
  /** NaN and the infinities are words in JSON. */
  readonly doubleValue?: number | string;
  readonly stringValue?: string;
  readonly bytesValue?: string;
  readonly jsonValue?: string;
}

/** Capability is what a node can do. */
export interface Capability {
  readonly name: string;
  readonly type?: string;
  readonly unit?: string;
  readonly readable?: boolean;
  readonly invocable?: boolean;
  readonly min?: number | string;
  readonly max?: number | string;
  readonly step?: number | string;
  readonly allowed?: readonly string[];
  readonly description?: string;
  readonly schema?: string;
}

/** NodeName names a node. */
export interface NodeName {
  readonly hubId: string;
  readonly nodeId: string;
}

/** NodeRecord is a node as the hub knows it. */
export interface NodeRecord {
  readonly name: NodeName;
  readonly node?: {
    readonly kind?: string;
    readonly type?: string;
    readonly name?: string;
    readonly vendor?: string;
    readonly description?: string;
    readonly capabilities?: readonly Capability[];
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly state?: readonly { readonly key: string; readonly value?: Value }[];
  readonly online?: boolean;
  readonly freshness?: string;
  readonly ageMs?: string;
  readonly stateOmitted?: number;
}

/** NodePage is a page of a list. */
export interface NodePage {
  readonly records?: readonly NodeRecord[];
  readonly nextPageToken?: string;
  readonly hubs?: readonly { readonly hubId: string; readonly freshness?: string; readonly ageMs?: string; readonly nodes?: number }[];
  readonly total?: number;
}

/** Failure is why something did not work. */
export interface Failure {
  readonly reason?: string;
  readonly message?: string;
}

/** Peer is another hub. */
export interface Peer {
  readonly hubId: string;
  readonly level?: string;
  readonly maxTrust?: string;
  readonly levelThere?: string;
  readonly evidence?: readonly { readonly method?: string; readonly valid?: boolean; readonly detail?: string }[];
  readonly share?: string;
  readonly state?: string;
  readonly stateAgeMs?: string;
  readonly sessions?: readonly {
    readonly service?: string;
    readonly state?: string;
    readonly rttMs?: number;
    readonly failure?: Failure;
  }[];
  readonly software?: string;
  readonly clockSkewMs?: string;
  readonly failure?: Failure;
  readonly decision?: string;
}

/** LinkReport has the counters of a link. */
export interface LinkReport {
  readonly peer: string;
  readonly service?: string;
  readonly mount?: string;
  readonly framesIn?: string;
  readonly framesOut?: string;
  readonly bytesIn?: string;
  readonly bytesOut?: string;
  readonly ready?: string;
  readonly backpressure?: string;
  readonly fatal?: string;
  readonly waiting?: boolean;
  readonly lastEvent?: string;
}

/** FeedPosition is a position in a feed. */
export interface FeedPosition {
  readonly hubId?: string;
  readonly share?: string;
  readonly seq?: string;
}

/** Feed is a feed that the hub holds. */
export interface Feed {
  readonly head?: FeedPosition;
  readonly own?: boolean;
  readonly freshness?: string;
  readonly ageMs?: string;
  readonly nodes?: number;
  readonly entries?: string;
  readonly dropped?: string;
  readonly cursors?: readonly { readonly hubId: string; readonly lag?: string; readonly snapshot?: boolean }[];
}

/** HubEvent is something that happened. */
export interface HubEvent {
  readonly seq?: string;
  readonly wallMs?: string;
  readonly kind?: string;
  readonly severity?: string;
  readonly service?: string;
  readonly peer?: string;
  readonly node?: string;
  readonly text?: string;
  readonly fields?: Readonly<Record<string, string>>;
}

/** Status is how the hub is. */
export interface Status {
  readonly hubId: string;
  readonly software?: string;
  readonly uptimeMs?: string;
  readonly modules?: readonly { readonly name: string; readonly ready?: boolean; readonly reason?: string }[];
}

/** Me is who is logged in. */
export interface Me {
  readonly hubId: string;
  readonly name: string;
  readonly admin: boolean;
}
