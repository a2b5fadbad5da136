// Discovery payloads as the documentation of Home Assistant says that they may be, each with what becomes of it: the capabilities of its
// node, or a part of the reason why there is none.

/** Payload is one discovery message. */
export interface Payload {
  /** What is odd about it. */
  readonly what: string;
  /** Without prefix and `/config`. */
  readonly topic: string;
  readonly payload: unknown;
  readonly becomes?: readonly string[];
  /** A part of what is told of it: alone, nothing of it is mapped; beside `becomes`, a part is not. */
  readonly refused?: string;
}

const dev = (id: string) => ({ device: { identifiers: [id], name: id } });

const SENSORS: readonly Payload[] = [
  {
    what: "a sensor with unit and a plain template",
    topic: "sensor/s1/temperature",
    payload: {
      ...dev("s1"),
      state_topic: "s1",
      value_template: "{{ value_json.temperature }}",
      unit_of_measurement: "°C",
      device_class: "temperature",
    },
    becomes: ["temperature DOUBLE r °C"],
  },
  {
    what: "abbreviations and ~ at the start",
    topic: "sensor/s2/h",
    payload: { "~": "home/s2", stat_t: "~/state", val_tpl: "{{value_json.h|float}}", unit_of_meas: "%", dev: { ids: "s2" } },
    becomes: ["h DOUBLE r %"],
  },
  {
    what: "~ at the end",
    topic: "sensor/s3/p",
    payload: { "~": "state", stat_t: "home/s3/~", stat_cla: "measurement", dev: { ids: ["s3"] } },
    becomes: ["p DOUBLE r"],
  },
  {
    what: "no unit and no class: a text",
    topic: "sensor/s4/mode",
    payload: { ...dev("s4"), state_topic: "s4/mode" },
    becomes: ["mode STRING r"],
  },
  {
    what: "an enum",
    topic: "sensor/s5/phase",
    payload: { ...dev("s5"), state_topic: "s5", device_class: "enum", options: ["idle", "wash", "spin"] },
    becomes: ["phase STRING r [idle,wash,spin]"],
  },
  {
    what: "a template that is a programme",
    topic: "sensor/s6/x",
    payload: { ...dev("s6"), state_topic: "s6", value_template: "{% if value == 'a' %}1{% else %}2{% endif %}" },
    becomes: ["x STRING r"],
    refused: "more than a path",
  },
  {
    what: "an opaque template of a number is no number",
    topic: "sensor/s7/x",
    payload: { ...dev("s7"), state_topic: "s7", unit_of_measurement: "W", value_template: "{{ value_json.a + value_json.b }}" },
    becomes: ["x STRING r"],
    refused: "more than a path",
  },
  {
    what: "a timestamp is a text",
    topic: "sensor/s8/last",
    payload: { ...dev("s8"), state_topic: "s8", device_class: "timestamp" },
    becomes: ["last STRING r"],
  },
  {
    what: "no device: a node of its own",
    topic: "sensor/lonely",
    payload: { state_topic: "lonely", unique_id: "lonely1", suggested_display_precision: 1 },
    becomes: ["lonely DOUBLE r"],
  },
  {
    what: "a path with brackets",
    topic: "sensor/s9/x",
    payload: { ...dev("s9"), state_topic: "s9", value_template: "{{ value_json['a b'][0].c | round(2) }}", state_class: "total" },
    becomes: ["x DOUBLE r"],
  },
  {
    what: "no state topic",
    topic: "sensor/s10/x",
    payload: { ...dev("s10"), unit_of_measurement: "W" },
    refused: "neither a state nor a command",
  },
  {
    what: "a state topic with a wildcard",
    topic: "sensor/s11/x",
    payload: { ...dev("s11"), state_topic: "s11/#" },
    refused: "state_topic is not a topic",
  },
  {
    what: "a state topic of the broker's own",
    topic: "sensor/s12/x",
    payload: { ...dev("s12"), state_topic: "$SYS/broker/uptime" },
    refused: "state_topic is not a topic",
  },
  {
    what: "connections instead of identifiers",
    topic: "sensor/s13/rssi",
    payload: { dev: { cns: [["mac", "aa:bb:cc:dd:ee:ff"]], mf: "Acme", mdl: "X" }, stat_t: "s13", unit_of_meas: "dBm" },
    becomes: ["rssi DOUBLE r dBm"],
  },
  { what: "values that are bytes", topic: "sensor/s14/x", payload: { ...dev("s14"), state_topic: "s14", encoding: "" }, refused: "bytes" },
  {
    what: "a binary sensor",
    topic: "binary_sensor/b1/door",
    payload: { ...dev("b1"), state_topic: "b1/door", device_class: "door" },
    becomes: ["door BOOL r"],
  },
  {
    what: "a binary sensor with words of its own",
    topic: "binary_sensor/b2/motion",
    payload: { ...dev("b2"), stat_t: "b2", pl_on: true, pl_off: false, val_tpl: "{{ value_json.occupancy }}", off_dly: 30 },
    becomes: ["motion BOOL r"],
  },
  {
    what: "a binary sensor that numbers",
    topic: "binary_sensor/b3/leak",
    payload: { ...dev("b3"), stat_t: "b3", pl_on: 1, pl_off: 0 },
    becomes: ["leak BOOL r"],
  },
  {
    what: "an event",
    topic: "event/e1/button",
    payload: { ...dev("e1"), state_topic: "e1", event_types: ["press", "hold"] },
    becomes: ["button STRING r [press,hold]"],
  },
  {
    what: "a device tracker",
    topic: "device_tracker/d1/phone",
    payload: { ...dev("d1"), state_topic: "d1", payload_home: "yes", payload_not_home: "no" },
    becomes: ["phone STRING r"],
  },
  {
    what: "a device tracker with a position only",
    topic: "device_tracker/d2/phone",
    payload: { ...dev("d2"), json_attributes_topic: "d2/attr" },
    refused: "only a position",
  },
  {
    what: "an update",
    topic: "update/u1/firmware",
    payload: {
      ...dev("u1"),
      state_topic: "u1",
      value_template: "{{ value_json.installed }}",
      latest_version_topic: "u1",
      latest_version_template: "{{ value_json.latest }}",
      command_topic: "u1/update",
      payload_install: "go",
    },
    becomes: ["firmware.installed STRING r", "firmware.latest STRING r", "firmware.install STRING w [INSTALL]"],
  },
];

const ACTORS: readonly Payload[] = [
  {
    what: "a switch",
    topic: "switch/w1/relay",
    payload: { ...dev("w1"), state_topic: "w1/state", command_topic: "w1/set" },
    becomes: ["relay BOOL rw"],
  },
  {
    what: "a switch whose states have other words",
    topic: "switch/w2/relay",
    payload: { ...dev("w2"), stat_t: "w2", cmd_t: "w2/set", pl_on: "1", pl_off: "0", stat_on: "on", stat_off: "off" },
    becomes: ["relay BOOL rw"],
  },
  {
    what: "a switch without a state",
    topic: "switch/w3/relay",
    payload: { ...dev("w3"), command_topic: "w3/set" },
    becomes: ["relay BOOL w"],
  },
  {
    what: "a command template with {{ value }}",
    topic: "switch/w4/relay",
    payload: { ...dev("w4"), stat_t: "w4", cmd_t: "w4/set", cmd_tpl: '{"state": "{{ value }}"}', val_tpl: "{{ value_json.state }}" },
    becomes: ["relay BOOL rw"],
  },
  {
    what: "a command template that is a programme",
    topic: "switch/w5/relay",
    payload: { ...dev("w5"), stat_t: "w5", cmd_t: "w5/set", cmd_tpl: "{% set x = value %}{{ x }}" },
    becomes: ["relay BOOL r"],
    refused: "command_template is more than text",
  },
  { what: "a basic light", topic: "light/l1/lamp", payload: { ...dev("l1"), stat_t: "l1/s", cmd_t: "l1/c" }, becomes: ["lamp BOOL rw"] },
  {
    what: "a basic light with all",
    topic: "light/l2/lamp",
    payload: {
      ...dev("l2"),
      stat_t: "l2/s",
      cmd_t: "l2/c",
      bri_stat_t: "l2/bs",
      bri_cmd_t: "l2/bc",
      bri_scl: 100,
      clr_temp_stat_t: "l2/ts",
      clr_temp_cmd_t: "l2/tc",
      min_mirs: 150,
      max_mirs: 400,
      fx_cmd_t: "l2/fx",
      fx_list: ["rainbow"],
      rgb_cmd_t: "l2/rgb",
      rgb_stat_t: "l2/rgbs",
    },
    becomes: [
      "lamp BOOL rw",
      "lamp.brightness DOUBLE rw 0..100",
      "lamp.color_temp DOUBLE rw mired 150..400",
      "lamp.effect STRING w [rainbow]",
      "lamp.rgb STRING rw",
    ],
  },
  {
    what: "a JSON light",
    topic: "light/l3/lamp",
    payload: {
      ...dev("l3"),
      schema: "json",
      stat_t: "l3",
      cmd_t: "l3/set",
      brightness: true,
      sup_clrm: ["color_temp", "xy"],
      effect: true,
      fx_list: ["none", "blink"],
    },
    becomes: [
      "lamp BOOL rw",
      "lamp.brightness DOUBLE rw 0..255",
      "lamp.color_temp DOUBLE rw mired 153..500",
      "lamp.color JSON rw",
      "lamp.effect STRING rw [none,blink]",
    ],
  },
  {
    what: "a JSON light in kelvin",
    topic: "light/l4/lamp",
    payload: {
      ...dev("l4"),
      schema: "json",
      stat_t: "l4",
      cmd_t: "l4/set",
      sup_clrm: ["color_temp"],
      clr_temp_k: true,
      min_k: 2200,
      max_k: 4000,
    },
    becomes: ["lamp BOOL rw", "lamp.brightness DOUBLE rw 0..255", "lamp.color_temp DOUBLE rw K 2200..4000"],
  },
  {
    what: "a JSON light that is on or off",
    topic: "light/l5/lamp",
    payload: { ...dev("l5"), schema: "json", stat_t: "l5", cmd_t: "l5/set", sup_clrm: ["onoff"] },
    becomes: ["lamp BOOL rw"],
  },
  {
    what: "a template light",
    topic: "light/l6/lamp",
    payload: { ...dev("l6"), schema: "template", cmd_t: "l6", cmd_on_tpl: "on", cmd_off_tpl: "off" },
    refused: "schema template",
  },
  { what: "a light without a command", topic: "light/l7/lamp", payload: { ...dev("l7"), stat_t: "l7" }, refused: "no command_topic" },
  {
    what: "a cover with a state",
    topic: "cover/c1/blind",
    payload: { ...dev("c1"), stat_t: "c1/s", cmd_t: "c1/c" },
    becomes: ["blind STRING r [open,opening,closed,closing,stopped]", "blind.command STRING w [OPEN,CLOSE,STOP]"],
  },
  {
    what: "a cover with a position that counts down, and tilt",
    topic: "cover/c2/blind",
    payload: {
      ...dev("c2"),
      cmd_t: "c2/c",
      pos_t: "c2/p",
      set_pos_t: "c2/sp",
      pos_open: 0,
      pos_clsd: 100,
      tilt_cmd_t: "c2/t",
      tilt_status_t: "c2/ts",
      pl_stop: null,
    },
    becomes: ["blind.command STRING w [OPEN,CLOSE]", "blind.position DOUBLE rw % 0..100", "blind.tilt DOUBLE rw 0..100"],
  },
  {
    what: "a cover that cannot open",
    topic: "cover/c3/blind",
    payload: { ...dev("c3"), pos_t: "c3/p", pos_open: 5, pos_clsd: 5 },
    refused: "position_open is its position_closed",
  },
  {
    what: "a valve",
    topic: "valve/v1/water",
    payload: { ...dev("v1"), stat_t: "v1/s", cmd_t: "v1/c" },
    becomes: ["water STRING r [open,opening,closed,closing,stopped]", "water.command STRING w [OPEN,CLOSE]"],
  },
  {
    what: "a valve with a position",
    topic: "valve/v2/water",
    payload: { ...dev("v2"), stat_t: "v2/s", cmd_t: "v2/c", reports_position: true },
    becomes: ["water.position DOUBLE rw % 0..100"],
  },
  {
    what: "a lock",
    topic: "lock/k1/door",
    payload: { ...dev("k1"), stat_t: "k1/s", cmd_t: "k1/c", pl_open: "OPEN" },
    becomes: ["door STRING r [locked,unlocked,locking,unlocking,jammed]", "door.command STRING w [LOCK,UNLOCK,OPEN]"],
  },
  {
    what: "a lock that wants a code",
    topic: "lock/k2/door",
    payload: { ...dev("k2"), stat_t: "k2/s", cmd_t: "k2/c", cod_form: "^\\d{4}$" },
    becomes: ["door STRING r [locked,unlocked,locking,unlocking,jammed]"],
    refused: "wants a code",
  },
  {
    what: "a fan",
    topic: "fan/f1/fan",
    payload: {
      ...dev("f1"),
      stat_t: "f1/s",
      cmd_t: "f1/c",
      pct_cmd_t: "f1/pc",
      pct_stat_t: "f1/ps",
      spd_rng_max: 4,
      pr_mode_cmd_t: "f1/mc",
      pr_modes: ["auto", "eco"],
      osc_cmd_t: "f1/oc",
      osc_stat_t: "f1/os",
      dir_cmd_t: "f1/dc",
    },
    becomes: [
      "fan BOOL rw",
      "fan.percentage DOUBLE rw % 0..100",
      "fan.preset_mode STRING w [auto,eco]",
      "fan.oscillation BOOL rw",
      "fan.direction STRING w [forward,reverse]",
    ],
  },
  {
    what: "a thermostat",
    topic: "climate/t1/heat",
    payload: {
      ...dev("t1"),
      mode_cmd_t: "t1/mc",
      mode_stat_t: "t1",
      mode_stat_tpl: "{{ value_json.mode }}",
      modes: ["off", "heat"],
      temp_cmd_t: "t1/tc",
      temp_stat_t: "t1",
      temp_stat_tpl: "{{ value_json.target }}",
      min_temp: 5,
      max_temp: 30,
      curr_temp_t: "t1",
      curr_temp_tpl: "{{ value_json.now }}",
    },
    becomes: ["heat.mode STRING rw [off,heat]", "heat.temperature DOUBLE rw °C 5..30", "heat.current_temperature DOUBLE r °C"],
  },
  {
    what: "a thermostat in Fahrenheit, with presets",
    topic: "climate/t2/ac",
    payload: { ...dev("t2"), temp_cmd_t: "t2/tc", temp_unit: "F", pr_mode_cmd_t: "t2/pc", pr_modes: ["away"], fan_mode_cmd_t: "t2/fc" },
    becomes: ["ac.temperature DOUBLE w °F 44.6..95", "ac.fan_mode STRING w [auto,low,medium,high]", "ac.preset_mode STRING w [none,away]"],
  },
  {
    what: "a humidifier",
    topic: "humidifier/h1/hum",
    payload: {
      ...dev("h1"),
      cmd_t: "h1/c",
      stat_t: "h1/s",
      hum_cmd_t: "h1/hc",
      hum_stat_t: "h1/hs",
      min_hum: 30,
      max_hum: 80,
      mode_cmd_t: "h1/mc",
      modes: ["normal", "boost"],
    },
    becomes: ["hum BOOL rw", "hum.humidity DOUBLE rw % 30..80", "hum.mode STRING w [normal,boost]"],
  },
  {
    what: "a boiler",
    topic: "water_heater/y1/boiler",
    payload: { ...dev("y1"), mode_cmd_t: "y1/mc", modes: ["off", "eco"], temp_cmd_t: "y1/tc", temp_stat_t: "y1/ts", curr_temp_t: "y1/ct" },
    becomes: ["boiler.mode STRING w [off,eco]", "boiler.temperature DOUBLE rw °C 43.3..60", "boiler.current_temperature DOUBLE r °C"],
  },
  {
    what: "a number",
    topic: "number/n1/level",
    payload: { ...dev("n1"), stat_t: "n1/s", cmd_t: "n1/c", min: 0, max: 10, step: 0.5, unit_of_meas: "bar" },
    becomes: ["level DOUBLE rw bar 0..10 /0.5"],
  },
  {
    what: "a number without bounds",
    topic: "number/n2/level",
    payload: { ...dev("n2"), cmd_t: "n2/c" },
    becomes: ["level DOUBLE w 1..100"],
  },
  {
    what: "a number with bounds the wrong way",
    topic: "number/n3/level",
    payload: { ...dev("n3"), cmd_t: "n3/c", min: 10, max: 1 },
    refused: "min is greater than its max",
  },
  {
    what: "a select",
    topic: "select/x1/mode",
    payload: { ...dev("x1"), stat_t: "x1/s", cmd_t: "x1/c", ops: ["a", "b"] },
    becomes: ["mode STRING rw [a,b]"],
  },
  { what: "a select without options", topic: "select/x2/mode", payload: { ...dev("x2"), cmd_t: "x2/c" }, refused: "no options" },
  {
    what: "a text",
    topic: "text/q1/line",
    payload: { ...dev("q1"), stat_t: "q1/s", cmd_t: "q1/c", min: 0, max: 20 },
    becomes: ["line STRING rw"],
  },
  {
    what: "a button",
    topic: "button/p1/restart",
    payload: { ...dev("p1"), cmd_t: "p1/c", pl_prs: "restart" },
    becomes: ["restart STRING w [PRESS]"],
  },
  { what: "a button without a command", topic: "button/p2/restart", payload: dev("p2"), refused: "no command_topic" },
  { what: "a scene", topic: "scene/z1/evening", payload: { ...dev("z1"), cmd_t: "z1/c" }, becomes: ["evening STRING w [ON]"] },
  {
    what: "a siren",
    topic: "siren/i1/siren",
    payload: { ...dev("i1"), cmd_t: "i1/c", stat_t: "i1/s" },
    becomes: ["siren BOOL rw"],
    refused: "tones, volume and duration",
  },
  { what: "a notifier", topic: "notify/o1/display", payload: { ...dev("o1"), cmd_t: "o1/c" }, becomes: ["display STRING w"] },
  {
    what: "a vacuum cleaner",
    topic: "vacuum/a1/robot",
    payload: { ...dev("a1"), stat_t: "a1/s", cmd_t: "a1/c", set_fan_spd_t: "a1/f", fanspd_lst: ["min", "max"], send_cmd_t: "a1/x" },
    becomes: [
      "robot STRING r",
      "robot.command STRING w [START,PAUSE,STOP,RETURN_TO_BASE,CLEAN_SPOT,LOCATE]",
      "robot.fan_speed STRING rw [min,max]",
      "robot.battery DOUBLE r %",
    ],
    refused: "of a vacuum's own",
  },
  {
    what: "a lawn mower",
    topic: "lawn_mower/m1/mower",
    payload: { ...dev("m1"), act_stat_t: "m1/a", strt_mw_cmd_t: "m1/start", dock_cmd_t: "m1/dock" },
    becomes: ["mower STRING r [mowing,paused,docked,returning,error]", "mower.start_mowing STRING w [START]", "mower.dock STRING w [DOCK]"],
  },
  {
    what: "an alarm",
    topic: "alarm_control_panel/g1/alarm",
    payload: { ...dev("g1"), stat_t: "g1/s", cmd_t: "g1/c", sup_feat: ["arm_home", "arm_away"] },
    becomes: ["alarm STRING r", "alarm.command STRING w [ARM_HOME,ARM_AWAY,DISARM]"],
  },
  {
    what: "an alarm that wants a code to be disarmed",
    topic: "alarm_control_panel/g2/alarm",
    payload: { ...dev("g2"), stat_t: "g2/s", cmd_t: "g2/c", code: "1234", cod_arm_req: false, sup_feat: ["arm_away"] },
    becomes: ["alarm STRING r", "alarm.command STRING w [ARM_AWAY]"],
    refused: "want a code",
  },
];

const REFUSED: readonly Payload[] = [
  { what: "a camera", topic: "camera/j1/cam", payload: { ...dev("j1"), topic: "j1" }, refused: "pictures" },
  { what: "an image", topic: "image/j2/img", payload: { ...dev("j2"), image_topic: "j2" }, refused: "pictures" },
  {
    what: "a trigger",
    topic: "device_automation/j3/t",
    payload: { ...dev("j3"), automation_type: "trigger", topic: "j3", type: "action", subtype: "x" },
    refused: "a trigger has no state",
  },
  { what: "a tag reader", topic: "tag/j4/t", payload: { ...dev("j4"), topic: "j4" }, refused: "tag reader" },
  { what: "a component that is not known", topic: "flux_capacitor/j5/t", payload: dev("j5"), refused: "not known" },
  { what: "no JSON", topic: "sensor/j6/t", payload: "{ not json", refused: "not JSON" },
  { what: "no object", topic: "sensor/j7/t", payload: [1, 2], refused: "not a JSON object" },
  {
    what: "the device form without a device",
    topic: "device/j8",
    payload: { cmps: { a: { p: "sensor", stat_t: "j8" } } },
    refused: "neither identifiers nor connections",
  },
  { what: "the device form without components", topic: "device/j9", payload: dev("j9"), refused: "no components" },
  {
    what: "an announcement of a peer's node",
    topic: "device/foedus_x",
    payload: { o: { name: "Foedus" }, dev: { ids: ["foedus_x"] }, cmps: { a: { p: "sensor", stat_t: "x" } } },
    refused: "",
  },
];

const DEVICES: readonly Payload[] = [
  {
    what: "the device form with abbreviations, a shared topic and ~",
    topic: "device/r1",
    payload: {
      "~": "dev/r1",
      dev: { ids: ["r1"], name: "Meter", mf: "Acme", mdl: "M", hw: "2" },
      o: { name: "meterd", sw: "1.0", url: "https://example.org" },
      stat_t: "~/state",
      cmps: {
        power: { p: "sensor", unit_of_meas: "W", val_tpl: "{{ value_json.power }}", uniq_id: "r1_p" },
        relay: { p: "switch", cmd_t: "~/relay", val_tpl: "{{ value_json.relay }}", uniq_id: "r1_r" },
      },
    },
    becomes: ["power DOUBLE r W", "relay BOOL rw"],
  },
  {
    what: "a component that is taken away",
    topic: "device/r2",
    payload: {
      dev: { ids: ["r2"] },
      o: { name: "x" },
      cmps: { old: { p: "sensor" }, now: { p: "sensor", stat_t: "r2", uniq_id: "r2_n" } },
    },
    becomes: ["now STRING r"],
  },
  {
    what: "components in full, some of them not mapped",
    topic: "device/r3",
    payload: {
      device: { identifiers: "r3" },
      origin: { name: "x" },
      components: {
        cam: { platform: "camera", topic: "r3/c" },
        on: { platform: "binary_sensor", state_topic: "r3/on", unique_id: "r3_on" },
      },
    },
    becomes: ["on BOOL r"],
    refused: "pictures",
  },
  {
    what: "names with HTML, right-to-left marks and emoji",
    topic: "device/r4",
    payload: {
      dev: { ids: ["r4<b>\u202e💡"], name: "<script>alert(1)</script>" },
      o: { name: "x" },
      cmps: { "a/b c": { p: "sensor", stat_t: "r4", uniq_id: "r4" } },
    },
    becomes: ["a/b c STRING r"],
  },
];

/** CORPUS is all of them. */
export const CORPUS: readonly Payload[] = [...SENSORS, ...ACTORS, ...REFUSED, ...DEVICES];
