/**
 * LIMITS are the bounds that hold unless configuration says otherwise. Each exists so that a peer, a node or a mistake can
 * never use more than its part; exceeding one is answered with a named reason, never by a crash. Bytes are bytes, times ms.
 */
export const LIMITS = {
  /** Characters of a hub id (a DNS label) and of a node id. */
  idLength: 63,
  /** Nodes of this hub itself. */
  ownNodes: 100_000,
  /** Nodes that one peer may share with this hub. */
  nodesPerPeer: 100_000,
  /** Numbers of nodes in one epoch of a feed, where none is used twice. An owner gives them out anew, in a new epoch, before they run out. */
  refsPerFeed: 2 ** 24,
  /** Encoded bytes of one node, without its state: with its framing it fits into a segment. */
  nodeBytes: 192 * 1024,
  /** Characters of a capability's name, which is also that of its state key. */
  nameLength: 127,
  /** State keys of one node: the largest published device definition has 276. */
  keysPerNode: 512,
  /** KEY_DEF entries of one epoch of a feed (16 bits), given back like refs when no node has them. One caller takes at most half of either. */
  keysPerFeed: 65_536,
  /** Bytes of a string or bytes value. */
  stringBytes: 4 * 1024,
  /** Bytes of a json value. */
  jsonBytes: 16 * 1024,
  /** Shares (named audiences) of one hub. */
  shares: 8,
  /** Bytes of a frame between hubs. */
  frameBytes: 256 * 1024,
  /** Bytes of a snapshot part, and of such parts in flight while commands are open. */
  snapshotPartBytes: 1024 * 1024,
  /** Bytes of all parts of a snapshot before the codec: 100,000 nodes of 2.6 KiB with their state. */
  snapshotBytes: 256 * 1024 * 1024,
  /** Bytes of memory for all snapshots that are coming in, until each is whole: its parts, and the nodes that are read out of them. */
  incomingBytes: 1024 * 1024 * 1024,
  /** Bytes of memory for what is held of one peer: nodes and texts, with all that goes with them. */
  bytesPerPeer: 512 * 1024 * 1024,
  /** Bytes of memory for all nodes for which one caller of this hub speaks. */
  bytesPerCaller: 512 * 1024 * 1024,
  /** Bytes of memory for all nodes of this hub: as many as the heap has room for, where that is less. */
  ownBytes: 2 * 1024 * 1024 * 1024,
  /** Bytes of memory for all nodes of peers together: as many as the heap has room for, where that is less. */
  peersBytes: 2 * 1024 * 1024 * 1024,
  /** Streams that one peer may have open. */
  streamsPerPeer: 8,
  /** Streams of one kind that one caller of this hub may have open at least, if there are so many; else an eighth of all. */
  streamsPerCaller: 8,
  /** Connections of one peer, whatever its certificates are called. */
  connectionsPerPeer: 64,
  /** Connections of one caller of this hub, whose programs have two each. */
  connectionsPerCaller: 512,
  /** Calls of one peer that are open on all its connections, also those whose answer is not read. */
  callsPerPeer: 256,
  /** Calls of one caller of this hub that are open on all its connections, also those whose answer is not read. */
  callsPerCaller: 4_096,
  /** Bytes of answers that one peer has not read yet, and of its requests that nobody took yet, on all its connections. */
  unreadBytesPerPeer: 32 * 1024 * 1024,
  /** Bytes of answers that one caller of this hub has not read yet, and of its requests that nobody took yet, on all its connections. */
  unreadBytesPerCaller: 32 * 1024 * 1024,
  /** Bytes of unread answers and requests of all peers and callers of one process, or a quarter of its heap where that is less. From half of it on, each has an eighth at most. */
  heldBytes: 128 * 1024 * 1024,
  /** State updates in one segment. */
  segmentUpdates: 4_000,
  /** Blocks of one segment, whatever they are: nodes, keys, and batches of state, which have many updates each. */
  segmentBlocks: 4_096,
  /** Payload bytes of one segment. */
  segmentPayloadBytes: 240 * 1024,
  /** Payload bytes of a segment that has several nodes: over a slow link, what is sent behind a segment waits for all of it. */
  segmentNodeBytes: 48 * 1024,
  /** The open segment is closed after this long at the latest (S1-24). */
  segmentLingerMs: 100,
  /** Bytes of the unary request on the introduction door. */
  introduceBytes: 64 * 1024,
  /** How long the pages of a listing stay consistent. */
  pagingMs: 5 * 60_000,
  /** Bytes of nodes that are kept as they were, because they changed, for the pages of all open listings. */
  listingBytes: 64 * 1024 * 1024,
  /** Bytes of nodes that are kept as they were, because they changed, for watchers who are reading what there is. */
  scanBytes: 64 * 1024 * 1024,
  /** Bytes of what is cut to fit into a message (the pages of a list, nodes that are registered together): one has at most 1 MiB + 64 KiB. */
  messageBytes: 768 * 1024,
  /** Inputs that wait for a core before it answers RESOURCE_EXHAUSTED (DC3). */
  mailbox: 4_096,
  /** Bytes of the frames and messages among the inputs that wait. */
  mailboxBytes: 16 * 1024 * 1024,
  /** How often a commit is tried again while the disk refuses it. */
  storeRetryMs: 5_000,
  /** How far a clock reading of another hub may lie in the future (D-9). */
  clockSkewMs: 60_000,
} as const;

/** Limits is the shape of LIMITS with the values open, for configuration. */
export type Limits = { readonly [K in keyof typeof LIMITS]: number };
