package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// tlsFiles are the certificate, key and authority that a process shows and asks for.
type tlsFiles struct {
	cert, key, ca string
}

func (files *tlsFiles) flags(flags *flag.FlagSet) {
	flags.StringVar(&files.cert, "cert", "", "certificate (PEM)")
	flags.StringVar(&files.key, "key", "", "its key (PEM)")
	flags.StringVar(&files.ca, "ca", "", "authority that the other side must have been signed by (PEM)")
}

func (files *tlsFiles) info() transport.TLSInfo {
	return transport.TLSInfo{CertFile: files.cert, KeyFile: files.key, TrustedCAFile: files.ca, ClientCertAuth: true}
}

// member runs one member until it is told to stop.
func member(arguments []string) error {
	flags := flag.NewFlagSet("member", flag.ExitOnError)
	var files tlsFiles
	files.flags(flags)
	name := flags.String("name", "", "name of this member")
	dataDir := flags.String("data-dir", "", "where the log and the data are")
	clientURL := flags.String("client-url", "", "where clients call, https")
	peerURL := flags.String("peer-url", "", "where other members call, https")
	metricsURL := flags.String("metrics-url", "", "where /metrics is, http on loopback")
	cluster := flags.String("initial-cluster", "", "name=peer-url of each member, with commas between them")
	if err := flags.Parse(arguments); err != nil {
		return err
	}

	config := embed.NewConfig()
	config.Name = *name
	config.Dir = *dataDir
	config.InitialCluster = *cluster
	for _, one := range []struct {
		text string
		into []*[]url.URL
	}{
		{*clientURL, []*[]url.URL{&config.ListenClientUrls, &config.AdvertiseClientUrls}},
		{*peerURL, []*[]url.URL{&config.ListenPeerUrls, &config.AdvertisePeerUrls}},
		{*metricsURL, []*[]url.URL{&config.ListenMetricsUrls}},
	} {
		parsed, err := url.Parse(one.text)
		if err != nil || parsed.Host == "" {
			return fmt.Errorf("%q is not a URL with a host and a port", one.text)
		}
		for _, list := range one.into {
			*list = []url.URL{*parsed}
		}
	}
	config.ClientTLSInfo = files.info()
	config.PeerTLSInfo = files.info()
	config.TlsMinVersion = "TLS1.3"
	// What is compared is the log; a second way in costs memory and time.
	config.EnableGRPCGateway = false
	// Its errors come back to this program; what it logs besides is about connections that end when it is stopped.
	config.LogLevel = "panic"
	config.LogOutputs = []string{"stderr"}

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	// Stopping is a crash: what is acknowledged is on disk, and to take leave of the others one after another takes seconds.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return err
	case <-stop:
		return nil
	}
	ready, err := json.Marshal(map[string]string{
		"ready": *name, "version": version.Version, "client": *clientURL, "metrics": *metricsURL,
	})
	if err != nil {
		return err
	}
	fmt.Println(string(ready))
	select {
	case err := <-etcd.Err():
		return err
	case <-stop:
		return nil
	}
}
