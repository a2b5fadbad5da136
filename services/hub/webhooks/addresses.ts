import { BlockList, isIP } from "node:net";

/**
 * Addresses at which nobody means a receiver of webhooks: a machine's link, where clouds hand out credentials to whoever asks, groups, and
 * none at all. Those of NAT64 stand for IPv4 ones.
 */
const NEVER = new BlockList();
for (const [network, bits] of [
  ["0.0.0.0", 8],
  ["169.254.0.0", 16],
  ["224.0.0.0", 4],
  ["255.255.255.255", 32],
  // Metadata of Alibaba Cloud, and of Azure.
  ["100.100.100.200", 32],
  ["168.63.129.16", 32],
] as const)
  NEVER.addSubnet(network, bits, "ipv4");
for (const [network, bits] of [
  ["::", 128],
  ["fe80::", 10],
  ["ff00::", 8],
  // Metadata of AWS, and of Google Cloud.
  ["fd00:ec2::254", 128],
  ["fd20:ce::254", 128],
  ["64:ff9b::a9fe:0", 112],
  ["2002:a9fe::", 32],
] as const)
  NEVER.addSubnet(network, bits, "ipv6");

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** AddressRule says to which addresses is posted. */
export interface AddressRule {
  /** Only to this machine: what is posted is not encrypted. */
  readonly plain: boolean;
  readonly allowed: readonly string[];
}

/** addressProblem says why nothing is posted to an address; undefined if it may be. */
export function addressProblem(address: string, { plain, allowed }: AddressRule): string | undefined {
  const bare = address.split("%", 1)[0] ?? "";
  const family = isIP(bare) === 6 ? "ipv6" : "ipv4";
  if (isIP(bare) === 0) return `${bare.slice(0, 64)} is no address`;
  if (plain && !LOOPBACK.check(bare, family)) return `${bare} is not this machine, and what is not encrypted stays on it`;
  const named = new BlockList();
  for (const one of allowed) named.addAddress(one, isIP(one) === 6 ? "ipv6" : "ipv4");
  if (!NEVER.check(bare, family) || named.check(bare, family)) return undefined;
  return `${bare} is link-local, multicast or a cloud's metadata; name it in allow_addresses if it is meant`;
}
