import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ClientOf } from "#channel/call.ts";
import {
  type NodeFilterSchema,
  type RegistrySyncService,
  WatchEncoding,
  type WatchEvent,
  WatchRequestSchema,
  type WatchResponse,
} from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
import type { FeedPosition } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";
import type { Failure } from "#kernel/error.ts";
import { Following, type FollowOptions } from "./following.ts";
import { START_OVER } from "./mirror.ts";

export type { WatchEvent } from "#gen/foedus/registry_sync/v1alpha1/registry_sync_service_pb.ts";
export type { FeedPosition } from "#gen/foedus/registry_sync/v1alpha1/session_pb.ts";

/** NodeFilterInit selects nodes, as it is written in code; all that is set must match. */
export type NodeFilterInit = MessageInitShape<typeof NodeFilterSchema>;

/** ChangeOptions say which changes of the registry are followed. */
export interface ChangeOptions extends FollowOptions {
  /** Missing: all nodes. */
  readonly filter?: NodeFilterInit;
  /** True leaves out the state. */
  readonly nodesOnly?: boolean;
  /** True leaves out what was overtaken while this program was slow: of each key only the newest value comes. */
  readonly latestOnly?: boolean;
}

/**
 * RegistryChange is what a hub tells of its registry. What there is comes first, as `event`s; with the first `current` all of it has come.
 * `reset`: what was told of a feed is void and is told anew. `gone`: the nodes of a feed are not known here any more.
 */
export type RegistryChange =
  | { readonly kind: "event"; readonly event: WatchEvent }
  | { readonly kind: "current" }
  | { readonly kind: "reset" | "gone"; readonly position: FeedPosition };

type Client = Pick<ClientOf<typeof RegistrySyncService>, "watch">;

const nameOf = ({ hubId, share }: FeedPosition): string => `${hubId}/${share}`;

/**
 * ChangeStream follows the registry without keeping a copy of it. After a cut it goes on from the last `current`: what came between that and the
 * cut may come twice, and nothing is left out.
 */
export class ChangeStream extends Following<WatchResponse, RegistryChange> {
  constructor(client: Client, options: ChangeOptions = {}) {
    const { filter, nodesOnly = false, latestOnly = false } = options;
    const positions = new Map<string, FeedPosition>();
    // Feeds of which the program was told something, which may be a part of a first copy.
    const told = new Map<string, FeedPosition>();
    let resumes = true;
    const forget = (position: FeedPosition): boolean => {
      positions.delete(nameOf(position));
      return told.delete(nameOf(position));
    };
    super(options, {
      open: (number, signal) => {
        const resume = resumes ? [...positions.values()] : [];
        const shape = { encoding: WatchEncoding.EVENTS, nodesOnly, latestOnly, resume, stream: number };
        return client.watch(create(WatchRequestSchema, filter === undefined ? shape : { ...shape, filter }), { signal });
      },
      take: ({ push }): readonly RegistryChange[] => {
        switch (push.case) {
          case "events":
            return push.value.events.map((event) => ({ kind: "event", event }));
          case "bookmark": {
            const { positions: now, hubs } = push.value;
            for (const position of now) {
              positions.set(nameOf(position), position);
              told.set(nameOf(position), position);
            }
            resumes = true;
            // A hub that went before any position of its feed was known here is only not mentioned any more, among all that are.
            const here = new Set([...hubs, ...now].map(({ hubId }) => hubId));
            const left = [...told.values()].filter(({ hubId }) => !here.has(hubId));
            for (const position of left) forget(position);
            return [...left.map((position) => ({ kind: "gone", position }) as const), { kind: "current" }];
          }
          case "reset":
          case "gone": {
            const { position } = push.value;
            if (position === undefined) return [];
            // The first time a feed is sent is the beginning, not news.
            const known = forget(position);
            if (push.case === "reset") told.set(nameOf(position), position);
            return known || push.case === "gone" ? [{ kind: push.case, position }] : [];
          }
          default:
            return [];
        }
      },
      cut: ({ reason }: Failure) => {
        if (START_OVER.has(reason)) resumes = false;
      },
    });
  }
}
