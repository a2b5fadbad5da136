// `make down`.
import { stopDemo } from "./running.ts";

process.stdout.write((await stopDemo()) ? "all hubs stopped\n" : "no hubs of `make up` are running here\n");
