import type { DescMethod, Message } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { type Outbound, RawMessage } from "#channel/call.ts";
import { encodeMessage, methodPath } from "#channel/messages.ts";
import { ByteOutbound, Inbound } from "#channel/streams.ts";
import { FoedusError } from "#kernel/error.ts";
import { traceFields } from "../../trace/span.ts";
import type { CallContext } from "../call.ts";
import { type BugReporter, errorToStatus, type Status } from "../status.ts";
import { mayAnswer, type ServerCall, UNREAD } from "./call-context.ts";

/** HandlerEnv is what turns our handlers into those of grpc-js. */
export interface HandlerEnv {
  readonly bugs: BugReporter;
  /** callOf finds the ServerCall by the identity of the metadata object, not by anything in it. */
  callOf(metadata: grpc.Metadata): ServerCall;
}

/** UnaryHandler and those below are handlers with their types erased; `bind` has checked them at compile time. */
export type UnaryHandler = (request: Message, context: CallContext) => Promise<Message> | Message;
export type ServerStreamHandler = (request: Message, out: Outbound<Message>, context: CallContext) => Promise<void>;
export type ClientStreamHandler = (requests: AsyncIterable<Message>, context: CallContext) => Promise<Message>;
export type BidiHandler = (requests: AsyncIterable<Message>, out: Outbound<Message>, context: CallContext) => Promise<void>;

type Callback = grpc.sendUnaryData<RawMessage>;

/** answer sends the one response of a call, or its failure; never neither. */
function answer(env: HandlerEnv, call: ServerCall, work: () => Promise<Message> | Message, callback: Callback): void {
  const { method } = call;
  const refuse = (error: unknown): void => {
    call.answered = true;
    callback(errorToStatus(error, env.bugs, { method: methodPath(method), ...traceFields(call.trace) }));
  };
  const respond = (response: Message): void => {
    try {
      const raw = new RawMessage(encodeMessage(method.output, response));
      if (!call.hold(raw.bytes.length)) return;
      call.answered = true;
      callback(null, raw);
    } catch (error) {
      refuse(error);
    }
  };
  try {
    const result = work();
    if (result instanceof Promise) result.then(respond, refuse);
    else respond(result);
  } catch (error) {
    refuse(error);
  }
}

function unary(handler: UnaryHandler, env: HandlerEnv): grpc.handleUnaryCall<Message, RawMessage> {
  return (surface, callback) => {
    const call = env.callOf(surface.metadata);
    const work = (): Promise<Message> | Message => {
      if (!mayAnswer(call.account, call.entry)) throw new FoedusError(UNREAD);
      call.handled = true;
      return handler(surface.request, call);
    };
    const begin = (): void => {
      // One that is over before its turn comes needs no answer.
      if (call.abortReason !== undefined) return;
      const pause = call.account?.pace.next();
      if (pause === undefined) answer(env, call, work, callback);
      else void pause.then(begin);
    };
    begin();
  };
}

/** requestsOf reads a stream of requests; it throws when the call is aborted, so that a waiting handler wakes up. */
function requestsOf(call: ServerCall, surface: grpc.ServerReadableStream<Message, RawMessage>): Inbound<Message> {
  const requests = new Inbound<Message>(surface);
  // Else grpc-js reads sixteen messages ahead, of a megabyte each, of a client that only has to be read more slowly.
  (Reflect.get(surface, "_readableState") as { highWaterMark: number }).highWaterMark = 1;
  const { intake } = call;
  if (intake !== undefined) requests.onTaken(() => intake.taken());
  surface.on("end", () => requests.finish());
  return requests;
}

function clientStream(handler: ClientStreamHandler, env: HandlerEnv): grpc.handleClientStreamingCall<Message, RawMessage> {
  return (surface, callback) => {
    const call = env.callOf(surface.metadata);
    surface.sendMetadata(new grpc.Metadata());
    const requests = requestsOf(call, surface);
    surface.on("error", () => undefined);
    call.handled = true;
    call.onAbort((error) => requests.finish(error));
    answer(env, call, () => handler(requests, call), callback);
  };
}

type Writable = grpc.ServerWritableStream<Message, RawMessage> | grpc.ServerDuplexStream<Message, RawMessage>;

/** runStream runs a handler that sends many messages and ends its call in every case. */
function runStream(
  env: HandlerEnv,
  call: ServerCall,
  surface: Writable,
  requests: Inbound<Message> | undefined,
  work: (out: Outbound<Message>) => Promise<void>,
): void {
  const where = { method: methodPath(call.method) };
  const end = (status: Status | undefined): void => {
    out.close();
    if (call.answered) return;
    call.answered = true;
    requests?.finish();
    if (status === undefined) return void surface.end();
    surface.emit("error", status);
  };
  const fail = (error: unknown): void => end(errorToStatus(error, env.bugs, where));
  const encode = (message: Message): Buffer => encodeMessage(call.method.output, message);
  const out = new ByteOutbound<Message>(
    encode,
    (raw, done) => {
      const { length } = raw.bytes;
      if (!call.hold(length)) return;
      surface.write(raw, () => {
        call.gone(length);
        done();
      });
    },
    fail,
  );
  // Until headers arrive the client holds every message back for a transparent retry.
  surface.sendMetadata(new grpc.Metadata());
  surface.on("cancelled", () => out.close());
  call.onAbort((error) => {
    requests?.finish(error);
    // On a shutdown the handler may still say goodbye; otherwise nobody listens any more.
    if (error.failure.reason !== "SHUTTING_DOWN") out.close();
  });
  try {
    call.handled = true;
    work(out).then(() => end(undefined), fail);
  } catch (error) {
    fail(error);
  }
}

function serverStream(handler: ServerStreamHandler, env: HandlerEnv): grpc.handleServerStreamingCall<Message, RawMessage> {
  return (surface) => {
    const call = env.callOf(surface.metadata);
    runStream(env, call, surface, undefined, (out) => handler(surface.request, out, call));
  };
}

function bidi(handler: BidiHandler, env: HandlerEnv): grpc.handleBidiStreamingCall<Message, RawMessage> {
  return (surface) => {
    const call = env.callOf(surface.metadata);
    const requests = requestsOf(call, surface);
    runStream(env, call, surface, requests, (out) => handler(requests, out, call));
  };
}

/** toGrpcHandler wraps a handler for grpc-js. Whatever it throws ends the call; an async throw in grpc-js itself would hang it. */
export function toGrpcHandler(method: DescMethod, handler: unknown, env: HandlerEnv): grpc.UntypedHandleCall {
  switch (method.methodKind) {
    case "unary":
      return unary(handler as UnaryHandler, env) as grpc.UntypedHandleCall;
    case "server_streaming":
      return serverStream(handler as ServerStreamHandler, env) as grpc.UntypedHandleCall;
    case "client_streaming":
      return clientStream(handler as ClientStreamHandler, env) as grpc.UntypedHandleCall;
    case "bidi_streaming":
      return bidi(handler as BidiHandler, env) as grpc.UntypedHandleCall;
  }
}
