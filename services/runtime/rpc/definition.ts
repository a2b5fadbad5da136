import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";
import { RawMessage } from "#channel/call.ts";
import { noteDecoded, scanRequest } from "#channel/decoded-size.ts";
import { decodeMessage, encodeMessage, isRequestStream, isResponseStream, Malformed, methodPath, Sealed } from "#channel/messages.ts";
import { needsValidation } from "#channel/validation.ts";
import type { FoedusError } from "#kernel/error.ts";

/** deserializer of the requests of an RPC: those of hot streams, which nothing looks at before their reader, stay as they are. */
function deserializer(method: DescMethod, raw: boolean): (bytes: Buffer) => Message | RawMessage {
  const { input } = method;
  if (raw) return (bytes) => new RawMessage(bytes);
  if (isRequestStream(method) && !needsValidation(method)) return (bytes) => new Sealed(input, bytes) as unknown as Message;
  return (bytes) => {
    try {
      const size = scanRequest(input, bytes);
      const message = decodeMessage(input, bytes, size > 0);
      noteDecoded(message, size);
      return message;
    } catch (error) {
      return new Malformed(error as FoedusError) as unknown as Message;
    }
  };
}

/** toServiceDefinition turns a protobuf-es service descriptor into what grpc-js wants, keyed by the RPCs' local names. */
export function toServiceDefinition(service: DescService, rawRequests?: ReadonlySet<string>): grpc.ServiceDefinition {
  const definition: Record<string, grpc.MethodDefinition<Message | RawMessage, Message | RawMessage>> = {};
  for (const method of service.methods) {
    const { input, output } = method;
    definition[method.localName] = {
      path: methodPath(method),
      originalName: method.localName,
      requestStream: isRequestStream(method),
      responseStream: isResponseStream(method),
      requestSerialize: (message) => encodeMessage(input, message),
      requestDeserialize: deserializer(method, rawRequests?.has(method.localName) === true),
      responseSerialize: (message) => encodeMessage(output, message),
      responseDeserialize: (bytes) => decodeMessage(output, bytes),
    };
  }
  return definition;
}
