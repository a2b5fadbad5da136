/**
 * In the bundle Node's own modules are loaded where this is evaluated: after the signals are handled. They are most of the time that a
 * start takes before the first statement. Without a bundle nothing is to be done: what uses them is imported after the signals anyway.
 */
export {};
