import * as z from "zod";
import { isHubId } from "#kernel/hub-id.ts";

const ms = (min: number, max: number, fallback: number, description: string) =>
  z.int().min(min).max(max).default(fallback).meta({ unit: "ms", description });

/** discoveryConfigOf is the configuration of this service in a hub whose services `sessions` have sessions with peers, too. */
export const discoveryConfigOf = (sessions: readonly string[]) =>
  z
    .strictObject({
      minimum_evidence: z.int().min(1).max(5).default(2).meta({
        unit: "methods",
        description: "trust methods that must hold for more than discovery (S4-3); 1 trusts a certificate or pin alone",
      }),
      verification_period_ms: ms(
        60_000,
        30 * 86_400_000,
        86_400_000,
        "how long a handshake counts as evidence; it is renewed before (S4-3)",
      ),
      hello_timeout_ms: ms(100, 60_000, 10_000, "longest time for a Hello, connecting included (S0-8)"),
      backoff_base_ms: ms(10, 60_000, 2_000, "first wait after all addresses of a peer failed (S0-7)"),
      backoff_max_ms: ms(10, 3_600_000, 60_000, "longest wait between two rounds (S0-7)"),
      reintroduce_ms: ms(
        100,
        3_600_000,
        60_000,
        "while a link is not operational although Hello was answered, Hello is said again this often",
      ),
      token_ttl_ms: ms(1_000, 3_600_000, 3_600_000, "life of the tokens that peers get; they are refreshed at half of it"),
      key_rotation_ms: ms(3_600_000, 365 * 86_400_000, 7 * 86_400_000, "how long a key signs tokens"),
      key_lead_ms: ms(0, 86_400_000, 3_600_000, "how long a new key is published before it signs"),
      clock_skew_warn_ms: ms(100, 3_600_000, 60_000, "difference to a peer's clock from which on it is reported"),
      session_services: z
        .array(z.string())
        .default([...sessions])
        .meta({ description: "services whose sessions must stand before a link to a peer of level LIMITED or more is operational" }),
      trust: z
        .strictObject({
          bundles: z.record(z.string().refine(isHubId, "must be a hub id"), z.string().min(1)).default({}).meta({
            unit: "path",
            description: "CA certificates (PEM) of hubs that the federation file names without `ca`, by hub id",
            live: true,
          }),
        })
        .prefault({}),
    })
    .prefault({});

/** DiscoveryConfig is the configuration of this service. */
export type DiscoveryConfig = z.infer<ReturnType<typeof discoveryConfigOf>>;
