import { Name } from "../parts.tsx";
import { shown } from "../text.ts";
import type { Capability } from "../types.ts";
import { numberOf } from "../value.ts";

interface Props {
  readonly id: string;
  readonly capability: Capability;
  readonly text: string;
  readonly change: (text: string) => void;
  readonly problem: string;
}

/** Field is what a value of a capability is typed or chosen in. */
export function Field({ id, capability, text, change, problem }: Props) {
  return (
    <div class="field">
      <label for={id} id={`${id}-title`}>
        <Name text={capability.name} />
        {capability.unit === undefined || capability.unit === "" ? "" : ` in ${shown(capability.unit)}`}
      </label>
      <Input id={id} capability={capability} text={text} change={change} problem={problem} />
    </div>
  );
}

function Input({ id, capability, text, change, problem }: Props) {
  const { type, allowed = [] } = capability;
  const described = problem === "" ? `${id}-hint` : `${id}-problem`;
  const common = {
    id,
    "aria-invalid": problem !== "",
    "aria-describedby": described,
    onInput: ({ currentTarget }: { readonly currentTarget: HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement }) =>
      change(currentTarget.value),
  };
  const options = type === "VALUE_TYPE_BOOL" ? ["true", "false"] : type === "VALUE_TYPE_STRING" ? allowed : [];
  if (options.length > 0)
    return (
      <select {...common} value={text}>
        {options.includes(text) ? null : <option value={text}>{shown(text)}</option>}
        {options.map((option) => (
          <option key={option} value={option}>
            {shown(option)}
          </option>
        ))}
      </select>
    );
  if (type === "VALUE_TYPE_JSON") return <textarea {...common} value={text} maxLength={16_384} />;
  if (type === "VALUE_TYPE_DOUBLE")
    return (
      <input
        {...common}
        type="number"
        value={text}
        min={numberOf(capability.min)}
        max={numberOf(capability.max)}
        step={numberOf(capability.step) ?? "any"}
      />
    );
  if (type === "VALUE_TYPE_SINT64") return <input {...common} inputMode="numeric" value={text} maxLength={20} size={12} />;
  if (type === "VALUE_TYPE_STRING" || type === "VALUE_TYPE_BYTES") return <input {...common} value={text} maxLength={8_192} />;
  return <input {...common} value="no value" disabled />;
}
