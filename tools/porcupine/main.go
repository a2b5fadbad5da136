// porcupine tells whether a history of operations on registers is linearizable, with the checker of that name.
//
//	porcupine [--timeout=60s] [--html=FILE] <history.jsonl
//
// A line of the history is one operation of one client:
//
//	{"client": 3, "call_ns": 100, "return_ns": 180, "op": "write", "key": "x", "value": "1"}
//	{"client": 4, "call_ns": 150, "return_ns": 200, "op": "read", "key": "x", "result": "1"}
//	{"client": 3, "call_ns": 190, "return_ns": null, "op": "cas", "key": "x", "expect": "1", "value": "2", "result": true}
//
// Each key is a register of its own and absent (null) at first. A read's result is a value or null. A cas writes value if the key has
// expect (null: if it is absent), and its result says whether it did. An operation whose outcome nobody knows has a return_ns of null:
// it may have taken effect at any time since its call, or never; its result is not looked at. What was refused for certain is left out.
//
// One line of JSON says the verdict, and the keys at fault if there are any. Exit status: 0 linearizable, 1 not, 2 not found out in time,
// 3 that the history or the flags cannot be read. With --html a picture of the keys at fault is written.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	exitNot     = 1
	exitUnknown = 2
	exitWrong   = 3
)

// line is one operation as it is written. Times are nanoseconds of one clock.
type line struct {
	Client json.RawMessage `json:"client"`
	Call   *int64          `json:"call_ns"`
	Return json.RawMessage `json:"return_ns"`
	Op     string          `json:"op"`
	Key    *string         `json:"key"`
	Value  *string         `json:"value"`
	Expect *string         `json:"expect"`
	Result json.RawMessage `json:"result"`
}

// register is what a key has: a value, or nothing.
type register struct {
	present bool
	value   string
}

// input is what an operation asks for.
type input struct {
	op     string
	write  register
	expect register
}

// output is what it was answered; known is false where nobody knows.
type output struct {
	known bool
	read  register
	did   bool
}

// report is what is printed.
type report struct {
	Verdict         string   `json:"verdict"`
	Operations      int      `json:"operations"`
	UnknownOutcomes int      `json:"unknown_outcomes"`
	Keys            int      `json:"keys"`
	AtFault         []string `json:"at_fault,omitempty"`
	Undecided       []string `json:"undecided,omitempty"`
	Ms              float64  `json:"ms"`
}

func main() {
	timeout := flag.Duration("timeout", time.Minute, "how long to look for an order, for all keys together")
	html := flag.String("html", "", "where to write a picture of the keys at fault")
	flag.Parse()
	if flag.NArg() > 0 || *timeout <= 0 {
		fail(errors.New("the history comes on standard input, and the timeout is more than nothing"))
	}
	histories, keys, err := read(os.Stdin)
	if err != nil {
		fail(err)
	}
	began := time.Now()
	result := report{Verdict: "linearizable", Keys: len(keys)}
	for _, key := range keys {
		history := histories[key]
		result.Operations += len(history)
		for _, operation := range history {
			if !operation.Output.(output).known {
				result.UnknownOutcomes++
			}
		}
		switch checkFor(history, *timeout-time.Since(began)) {
		case porcupine.Illegal:
			result.AtFault = append(result.AtFault, key)
		case porcupine.Unknown:
			result.Undecided = append(result.Undecided, key)
		}
	}
	result.Ms = float64(time.Since(began).Microseconds()) / 1000
	status := 0
	switch {
	case len(result.AtFault) > 0:
		result.Verdict, status = "not", exitNot
		if *html != "" {
			if err := draw(histories, result.AtFault, *html, *timeout); err != nil {
				fail(err)
			}
		}
	case len(result.Undecided) > 0:
		result.Verdict, status = "unknown", exitUnknown
	}
	text, err := json.Marshal(result)
	if err != nil {
		fail(err)
	}
	fmt.Println(string(text))
	os.Exit(status)
}

// checkFor looks for an order as long as there is time; zero would mean for ever.
func checkFor(history []porcupine.Operation, left time.Duration) porcupine.CheckResult {
	if left <= 0 {
		return porcupine.Unknown
	}
	return porcupine.CheckOperationsTimeout(model(), history, left)
}

// draw writes a picture of some keys only: a fault is hard to see among many.
func draw(histories map[string][]porcupine.Operation, keys []string, path string, timeout time.Duration) error {
	drawn := model()
	drawn.Partition = func([]porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, 0, len(keys))
		for _, key := range keys {
			parts = append(parts, histories[key])
		}
		return parts
	}
	var all []porcupine.Operation
	for _, key := range keys {
		all = append(all, histories[key]...)
	}
	_, info := porcupine.CheckOperationsVerbose(drawn, all, timeout)
	return porcupine.VisualizePath(drawn, info, path)
}

// model is one register.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, in, out any) (bool, any) { return step(state.(register), in.(input), out.(output)) },
		DescribeOperation: func(in, out any) string {
			return describe(in.(input), out.(output))
		},
		DescribeState: func(state any) string { return state.(register).String() },
	}
}

func step(state register, in input, out output) (bool, register) {
	switch in.op {
	case "read":
		return !out.known || out.read == state, state
	case "write":
		return true, in.write
	default:
		does := state == in.expect
		if out.known && out.did != does {
			return false, state
		}
		if does {
			return true, in.write
		}
		return true, state
	}
}

func (has register) String() string {
	if has.present {
		return fmt.Sprintf("%q", has.value)
	}
	return "nothing"
}

func describe(in input, out output) string {
	answer := "?"
	switch {
	case !out.known:
	case in.op == "read":
		answer = out.read.String()
	case in.op == "write":
		answer = "done"
	default:
		answer = fmt.Sprint(out.did)
	}
	switch in.op {
	case "read":
		return fmt.Sprintf("read → %s", answer)
	case "write":
		return fmt.Sprintf("write %s → %s", in.write, answer)
	default:
		return fmt.Sprintf("cas %s to %s → %s", in.expect, in.write, answer)
	}
}

// read takes a history apart by key, keys in the order in which they come.
func read(from io.Reader) (histories map[string][]porcupine.Operation, keys []string, err error) {
	histories = map[string][]porcupine.Operation{}
	clients := map[string]int{}
	last := int64(math.MinInt64)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for number := 1; lines.Scan(); number++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var one line
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&one); err != nil {
			return nil, nil, fmt.Errorf("line %d of the history is no operation: %w", number, err)
		}
		operation, err := one.operation()
		if err != nil {
			return nil, nil, fmt.Errorf("line %d of the history: %w", number, err)
		}
		client := string(one.Client)
		if _, known := clients[client]; !known {
			clients[client] = len(clients)
		}
		operation.ClientId = clients[client]
		last = max(last, operation.Call, operation.Return)
		if _, known := histories[*one.Key]; !known {
			keys = append(keys, *one.Key)
		}
		histories[*one.Key] = append(histories[*one.Key], operation)
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("the history cannot be read: %w", err)
	}
	if len(keys) == 0 {
		return nil, nil, errors.New("there is no operation in the history")
	}
	// What has no known outcome ends after everything else; the picture needs an end that is not far away.
	for _, history := range histories {
		for i := range history {
			if !history[i].Output.(output).known {
				history[i].Return = last + 1
			}
		}
	}
	return histories, keys, nil
}

func (one *line) operation() (porcupine.Operation, error) {
	var nothing porcupine.Operation
	if len(one.Client) == 0 || one.Call == nil || one.Key == nil || len(one.Return) == 0 {
		return nothing, errors.New("client, call_ns, return_ns (null if nobody knows) and key are needed")
	}
	if !slices.Contains([]string{"read", "write", "cas"}, one.Op) {
		return nothing, fmt.Errorf("op is read, write or cas, not %q", one.Op)
	}
	if one.Op != "read" && one.Value == nil {
		return nothing, fmt.Errorf("a %s needs a value", one.Op)
	}
	in := input{op: one.Op, write: registerOf(one.Value), expect: registerOf(one.Expect)}
	operation := porcupine.Operation{Input: in, Call: *one.Call, Output: output{}}
	var returned *int64
	if json.Unmarshal(one.Return, &returned) != nil {
		return nothing, errors.New("return_ns is a whole number of nanoseconds or null")
	}
	if returned == nil {
		operation.Return = *one.Call
		return operation, nil
	}
	if *returned < *one.Call {
		return nothing, errors.New("return_ns is before call_ns")
	}
	operation.Return = *returned
	out := output{known: true}
	switch one.Op {
	case "read":
		var value *string
		if len(one.Result) == 0 || json.Unmarshal(one.Result, &value) != nil {
			return nothing, errors.New("the result of a read is a text or null")
		}
		out.read = registerOf(value)
	case "cas":
		if string(one.Result) != "true" && string(one.Result) != "false" {
			return nothing, errors.New("the result of a cas is true or false")
		}
		out.did = string(one.Result) == "true"
	}
	operation.Output = out
	return operation, nil
}

func registerOf(value *string) register {
	if value == nil {
		return register{}
	}
	return register{present: true, value: *value}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "porcupine:", err)
	os.Exit(exitWrong)
}
