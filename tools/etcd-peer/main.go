// etcd-peer is the etcd that logs of Foedus are compared with: one member of it, or clients that load it.
//
//	etcd-peer member --name=a --data-dir=DIR --client-url=https://127.0.0.1:1 --peer-url=https://127.0.0.1:2
//	  --metrics-url=http://127.0.0.1:3 --initial-cluster=a=https://127.0.0.1:2,b=… --cert=FILE --key=FILE --ca=FILE
//	etcd-peer load --endpoints=https://127.0.0.1:1 --clients=64 --seconds=5 --bytes=128 --cert=FILE --key=FILE --ca=FILE
//
// A member has mutual TLS 1.3 towards clients and other members, fsync on and no users; it prints a line once the cluster answers and
// ends at SIGTERM. `load` prints one line of JSON.
package main

import (
	"fmt"
	"os"
)

func main() {
	modes := map[string]func([]string) error{"member": member, "load": load}
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "etcd-peer: say what to do: etcd-peer member … or etcd-peer load …; --help after it lists the flags")
		os.Exit(2)
	}
	if err := modes[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd-peer:", err)
		os.Exit(1)
	}
}
