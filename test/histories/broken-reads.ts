// Loaded before a hub (`node --import`), it breaks the promise of linearizable reads: each hub answers them with what it has. For tests that
// the harness sees it.
import { Replica } from "../../services/coordination/log/replica.ts";

Replica.prototype.read = (_now, call, out) => void out.push({ kind: "readable", call });
