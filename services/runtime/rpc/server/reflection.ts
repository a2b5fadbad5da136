import {
  create,
  createRegistry,
  type DescFile,
  type DescService,
  type MessageInitShape,
  type Registry,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { file_google_rpc_error_details } from "#gen/google/rpc/error_details_pb.ts";
import { file_google_rpc_status } from "#gen/google/rpc/status_pb.ts";
import { ServerReflection, type ServerReflectionRequest, ServerReflectionResponseSchema } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import {
  ServerReflectionResponseSchema as AlphaResponseSchema,
  ServerReflection as ServerReflectionAlpha,
} from "#gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { bind, type ServiceBinding } from "../call.ts";

/** What errors carry in their details (google.rpc): no RPC names these types, yet a tool that prints an error asks for them. */
const DETAIL_FILES: readonly DescFile[] = [file_google_rpc_error_details, file_google_rpc_status];

/** Characters of a name that is looked up. */
const NAME_MAX = 1_024;

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** closure is a file and all that it imports. */
function closure(file: DescFile, seen = new Map<string, DescFile>()): Map<string, DescFile> {
  if (seen.has(file.proto.name)) return seen;
  seen.set(file.proto.name, file);
  for (const dependency of file.dependencies) closure(dependency, seen);
  return seen;
}

/** fileOf finds the file that defines a type, or the parent of a method, field or enum value. */
function fileOf(registry: Registry, symbol: string): DescFile | undefined {
  return (registry.get(symbol) ?? registry.get(symbol.slice(0, Math.max(0, symbol.lastIndexOf(".")))))?.file;
}

class Reflector {
  readonly #names: readonly string[];
  readonly #files = new Map<string, DescFile>();
  readonly #registry: Registry;
  /** Encoded once: a file, and a file with all that it imports. As many as the schema has. */
  readonly #bytes = new Map<DescFile, Uint8Array>();
  readonly #encoded = new Map<DescFile, Uint8Array[]>();

  constructor(services: readonly DescService[]) {
    this.#names = services.map((service) => service.typeName).sort();
    for (const file of [...services.map((service) => service.file), ...DETAIL_FILES]) closure(file, this.#files);
    this.#registry = createRegistry(...this.#files.values());
  }

  answer(request: ServerReflectionRequest["messageRequest"]): Answer {
    if (typeof request.value === "string" && request.value.length > NAME_MAX)
      return { case: "errorResponse", value: { errorCode: grpc.status.INVALID_ARGUMENT, errorMessage: "the name is too long" } };
    switch (request.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: this.#names.map((name) => ({ name })) } };
      case "fileByFilename":
        return this.#file(this.#files.get(request.value));
      case "fileContainingSymbol":
        return this.#file(fileOf(this.#registry, request.value));
      case "fileContainingExtension": {
        const extended = this.#registry.getMessage(request.value.containingType);
        return this.#file(
          extended === undefined ? undefined : this.#registry.getExtensionFor(extended, request.value.extensionNumber)?.file,
        );
      }
      case "allExtensionNumbersOfType":
        return {
          case: "allExtensionNumbersResponse",
          value: { baseTypeName: request.value, extensionNumber: this.#extensions(request.value) },
        };
      default:
        return { case: "errorResponse", value: { errorCode: grpc.status.INVALID_ARGUMENT, errorMessage: "the request is empty" } };
    }
  }

  #file(file: DescFile | undefined): Answer {
    if (file === undefined) return { case: "errorResponse", value: { errorCode: grpc.status.NOT_FOUND, errorMessage: "not found" } };
    let fileDescriptorProto = this.#encoded.get(file);
    if (fileDescriptorProto === undefined) {
      fileDescriptorProto = [...closure(file).values()].map((each) => this.#bytesOf(each));
      this.#encoded.set(file, fileDescriptorProto);
    }
    return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
  }

  #bytesOf(file: DescFile): Uint8Array {
    let bytes = this.#bytes.get(file);
    if (bytes === undefined) this.#bytes.set(file, (bytes = toBinary(FileDescriptorProtoSchema, file.proto)));
    return bytes;
  }

  #extensions(typeName: string): number[] {
    const numbers: number[] = [];
    for (const type of this.#registry) if (type.kind === "extension" && type.extendee.typeName === typeName) numbers.push(type.number);
    return numbers;
  }
}

/**
 * createReflection serves the schema of some services as grpc.reflection v1 and v1alpha. The descriptors are sent whole, with
 * custom options, so that tools show who may call what, and so are the types of error details, so that tools can print them.
 */
export function createReflection(services: readonly DescService[]): readonly ServiceBinding[] {
  const reflector = new Reflector([...services, ServerReflection, ServerReflectionAlpha]);
  return [
    bind(ServerReflection, {
      serverReflectionInfo: async (requests, out) => {
        for await (const request of requests) {
          const messageResponse = reflector.answer(request.messageRequest);
          out.send(create(ServerReflectionResponseSchema, { validHost: request.host, originalRequest: request, messageResponse }));
          await out.drained();
        }
      },
    }),
    bind(ServerReflectionAlpha, {
      serverReflectionInfo: async (requests, out) => {
        for await (const request of requests) {
          const messageResponse = reflector.answer(request.messageRequest as ServerReflectionRequest["messageRequest"]);
          out.send(
            create(AlphaResponseSchema, { validHost: request.host, originalRequest: request, messageResponse: messageResponse as never }),
          );
          await out.drained();
        }
      },
    }),
  ];
}
