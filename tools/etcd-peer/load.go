package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// figures are what a run gave. Latencies are in milliseconds.
type figures struct {
	Puts       int     `json:"puts"`
	PutsPerSec float64 `json:"puts_per_s"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
	Max        float64 `json:"max"`
}

// putter is one client with a connection of its own and one put in flight.
type putter struct {
	client *clientv3.Client
	key    string
	value  string
	took   []time.Duration
}

// load has clients put values in a closed loop and prints figures.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	var files tlsFiles
	files.flags(flags)
	endpoints := flags.String("endpoints", "", "client URLs, with commas between them; clients take them in turn")
	clients := flags.Int("clients", 1, "how many clients put at once, each on a connection of its own; 1 measures latency")
	seconds := flags.Float64("seconds", 5, "how long to put for")
	warmup := flags.Float64("warmup", 0, "how long to put before that, uncounted")
	bytes := flags.Int("bytes", 128, "length of a value")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	targets := strings.Split(*endpoints, ",")
	if *endpoints == "" || *clients < 1 || *seconds <= 0 || *warmup < 0 || *bytes < 0 {
		return errors.New("load needs --endpoints, at least one client and some seconds")
	}
	config, err := files.info().ClientConfig()
	if err != nil {
		return fmt.Errorf("the certificates cannot be used: %w", err)
	}
	config.MinVersion = tls.VersionTLS13

	putters := make([]*putter, *clients)
	for i := range putters {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{targets[i%len(targets)]}, TLS: config, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		})
		if err != nil {
			return err
		}
		defer client.Close()
		putters[i] = &putter{client: client, key: fmt.Sprintf("client-%d", i), value: strings.Repeat("v", *bytes)}
	}
	if *warmup > 0 {
		if _, err := during(putters, *warmup); err != nil {
			return err
		}
	}
	elapsed, err := during(putters, *seconds)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(summary(putters, elapsed))
}

// during puts for some seconds with all of them and says how long it took until the last put was answered.
func during(putters []*putter, seconds float64) (time.Duration, error) {
	began := time.Now()
	end := began.Add(time.Duration(seconds * float64(time.Second)))
	failed := make(chan error, len(putters))
	var group sync.WaitGroup
	for _, one := range putters {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := one.putUntil(end); err != nil {
				failed <- err
			}
		}()
	}
	group.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return time.Since(began), nil
	}
}

func (one *putter) putUntil(end time.Time) error {
	one.took = one.took[:0]
	for time.Now().Before(end) {
		sent := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := one.client.Put(ctx, one.key, one.value)
		cancel()
		if err != nil {
			return fmt.Errorf("a put failed: %w", err)
		}
		one.took = append(one.took, time.Since(sent))
	}
	return nil
}

func summary(putters []*putter, elapsed time.Duration) figures {
	var all []time.Duration
	for _, one := range putters {
		all = append(all, one.took...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := func(part float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[min(len(all)-1, int(part*float64(len(all))))]) / float64(time.Millisecond)
	}
	return figures{Puts: len(all), PutsPerSec: float64(len(all)) / elapsed.Seconds(), P50: at(0.5), P99: at(0.99), Max: at(1)}
}
