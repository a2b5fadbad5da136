import * as z from "zod";

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** isBroker tells what may be a broker's address: mqtts:// with a host, or mqtt:// on this machine. */
function isBroker(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "" || url.hostname === "") return false;
  return url.protocol === "mqtts:" || (url.protocol === "mqtt:" && LOOPBACK.test(url.hostname));
}

const path = (description: string) => z.string().default("").meta({ unit: "path", description, live: true });
const topic = (fallback: string, description: string) =>
  z
    .string()
    .min(1)
    .max(200)
    .regex(/^[^+#\0$][^+#\0]*$/, "must be the beginning of topics, without + and #")
    .default(fallback)
    .meta({ description, live: true });

/** mqttConfig is the configuration of the adapter for MQTT. */
export const mqttConfig = z
  .strictObject({
    enabled: z.boolean().default(false).meta({ description: "the hub runs the adapter for MQTT", live: true }),
    broker: z
      .string()
      .refine(isBroker, "must be mqtts://host[:port], or mqtt://localhost[:port] with plaintext: true; without user, password and query")
      .default("mqtts://localhost:8883")
      .meta({ unit: "URL", description: "the broker; mqtts:// is TLS, mqtt:// only to this machine and with plaintext: true", live: true }),
    plaintext: z.boolean().default(false).meta({ description: "allows mqtt:// without TLS, to a broker on this machine", live: true }),
    ca: path("CA certificates of the broker, PEM; empty: those that come with Node"),
    client_cert: path("certificate that the broker is shown, PEM; empty: none"),
    client_key: path("its key"),
    username: z.string().max(200).default("").meta({ description: "user at the broker; empty: none", live: true }),
    password_file: path("file with the password, on its first line, mode 0600; empty: none"),
    client_id: z
      .string()
      .max(23)
      .regex(/^[A-Za-z0-9-]*$/, "must be letters, digits and -")
      .default("")
      .meta({ description: "client identifier at the broker, one for each adapter; empty: made of the hub's id", live: true }),
    version: z.enum(["5.0", "3.1.1"]).default("5.0").meta({ description: "version of MQTT", live: true }),
    keepalive_s: z
      .int()
      .min(1)
      .max(3_600)
      .default(10)
      .meta({ unit: "s", description: "a broker that is silent for one and a half times as long is taken for lost", live: true }),
    in_flight: z.int().min(2).max(65_535).default(20).meta({
      unit: "messages",
      description:
        "as max_inflight_messages of mosquitto: half of them may wait until the hub has them on disk before they are acknowledged",
      live: true,
    }),
    cert: z.string().default("pki/gateway-mqtt.pem").meta({ unit: "path", description: "gateway certificate for the hub", live: true }),
    key: z.string().default("pki/gateway-mqtt.key").meta({ unit: "path", description: "its key", live: true }),
    prefix: z
      .string()
      .max(24)
      .regex(/^([A-Za-z0-9][A-Za-z0-9._:-]*)?$/, "must be the beginning of a node id")
      .default("")
      .meta({ description: "beginning of the ids of its nodes, as the gateway certificate may ask for", live: true }),
    confirm_ms: z.int().min(100).max(600_000).default(5_000).meta({
      unit: "ms",
      description: "time that a device has to report what it was asked to do; then the outcome is unknown",
      live: true,
    }),
    max_nodes: z.int().min(1).max(100_000).default(10_000).meta({ unit: "nodes", description: "most nodes; more are refused", live: true }),
    max_payload_bytes: z
      .int()
      .min(1_024)
      .max(1_048_576)
      .default(65_536)
      .meta({ unit: "bytes", description: "longest message of a device; a longer one is dropped and counted", live: true }),
    zigbee2mqtt: z
      .strictObject({
        enabled: z.boolean().default(true).meta({ description: "devices of Zigbee2MQTT become nodes", live: true }),
        base: topic("zigbee2mqtt", "base topic of Zigbee2MQTT"),
        ask_per_second: z
          .int()
          .min(0)
          .max(1_000)
          .default(5)
          .meta({ unit: "devices/s", description: "how fast devices are asked for their values after a reconnect; 0: never", live: true }),
      })
      .prefault({}),
    homeassistant: z
      .strictObject({
        enabled: z.boolean().default(true).meta({ description: "what announces itself to Home Assistant becomes nodes", live: true }),
        prefix: topic("homeassistant", "discovery prefix"),
        birth: z.boolean().default(true).meta({
          description: "says `online` on <prefix>/status after it has connected, so that devices announce themselves anew",
          live: true,
        }),
      })
      .prefault({}),
    publish: z
      .strictObject({
        nodes: z
          .array(z.string().min(1).max(127))
          .max(1_000)
          .default([])
          .meta({ unit: "hub/node pattern", description: "nodes of peers that Home Assistant sees as devices; * is any text", live: true }),
        base: topic("foedus", "topics of those nodes begin with this"),
      })
      .prefault({}),
  })
  .prefault({})
  .refine(({ broker, plaintext }) => plaintext || !broker.startsWith("mqtt:"), {
    path: ["plaintext"],
    message: "must be true for a broker without TLS (mqtt://)",
  });

/** MqttConfig is the effective configuration. */
export type MqttConfig = z.infer<typeof mqttConfig>;
