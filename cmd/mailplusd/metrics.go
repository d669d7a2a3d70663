package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"mailplusd/mail/certs/keeper"
	"mailplusd/mail/model"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// openMetrics serves /metrics and /healthz.
func (n *node) openMetrics(context.Context) error {
	if n.cfg.Metrics == "" {
		return nil
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.register(reg)
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", n.health)
	if n.cfg.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	l, err := net.Listen("tcp", n.cfg.Metrics)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: 2 * time.Minute}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("metrics", "err", err)
		}
	}()
	n.later(func() { srv.Close() })
	return nil
}

// health says 200 while this node leads and its listeners are open.
func (n *node) health(w http.ResponseWriter, _ *http.Request) {
	if !n.cluster.IsLeader() {
		http.Error(w, "no leader", http.StatusServiceUnavailable)
		return
	}
	for _, l := range n.mail.Listeners.State() {
		if l.Err != "" {
			http.Error(w, l.Name+": "+l.Err, http.StatusServiceUnavailable)
			return
		}
	}
	w.Write([]byte("ok\n"))
}

// register adds the node's own numbers; they are read when asked for.
func (n *node) register(reg *prometheus.Registry) {
	counter := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "mailplusd", Name: name, Help: help}, f))
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "mailplusd", Name: name, Help: help}, f))
	}
	counter("body_fsyncs_total", "fdatasync calls of the body store", func() float64 { return float64(n.bodies.Stats().Fsyncs) })
	counter("body_appends_total", "bodies stored", func() float64 { return float64(n.bodies.Stats().Appends) })
	gauge("body_bytes", "octets of all segments", func() float64 { return float64(n.bodies.Stats().Bytes) })
	counter("raft_log_writes_total", "writes of the replicated log, with two fdatasync calls each", func() float64 { return float64(n.cluster.Status().LogWrites) })
	counter("raft_log_entries_total", "entries that these writes brought", func() float64 { return float64(n.cluster.Status().LogEntries) })
	gauge("raft_applied_index", "last applied entry", func() float64 { return float64(n.cluster.Status().AppliedIndex) })
	gauge("leader", "1 while this node leads", func() float64 {
		if n.cluster.IsLeader() {
			return 1
		}
		return 0
	})
	reg.MustRegister(connections{n}, certificates{n})
	if n.sharing != nil {
		reg.MustRegister(shared{n.sharing})
	}
}

// connections counts the open connections of each listener.
type connections struct{ n *node }

var connectionsDesc = prometheus.NewDesc("mailplusd_connections", "open connections", []string{"listener"}, nil)

// Describe implements prometheus.Collector.
func (c connections) Describe(ch chan<- *prometheus.Desc) { ch <- connectionsDesc }

// Collect implements prometheus.Collector.
func (c connections) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.n.mail.Listeners.State() {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(l.Conns), l.Name)
	}
}

// certificates tells how long each is good, and how often its order failed.
type certificates struct{ n *node }

var (
	certUntilDesc    = prometheus.NewDesc("mailplusd_certificate_not_after_seconds", "when the certificate ends, Unix time", []string{"certificate"}, nil)
	certFailuresDesc = prometheus.NewDesc("mailplusd_certificate_order_failures", "orders in a row that failed", []string{"certificate"}, nil)
)

// Describe implements prometheus.Collector.
func (c certificates) Describe(ch chan<- *prometheus.Desc) {
	ch <- certUntilDesc
	ch <- certFailuresDesc
}

// Collect implements prometheus.Collector.
func (c certificates) Collect(ch chan<- prometheus.Metric) {
	all, err := keeper.All(c.n.state)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(certUntilDesc, err)
		return
	}
	for _, e := range all {
		if e.Chain != "" && e.Err == nil {
			ch <- prometheus.MustNewConstMetric(certUntilDesc, prometheus.GaugeValue, float64(e.Info.NotAfter.Unix()), e.Name)
		}
		if e.Source == model.CertACME {
			failures := 0
			if e.Issued != nil {
				failures = e.Issued.Failures
			}
			ch <- prometheus.MustNewConstMetric(certFailuresDesc, prometheus.GaugeValue, float64(failures), e.Name)
		}
	}
}
