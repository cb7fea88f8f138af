// Package metrics counts what a mediator does, for Prometheus. The rooms know
// nothing of it: they are given its methods as plain functions, and what they hold is
// read from their own Status when somebody asks.
//
// The library is Prometheus's own client: its format, its registry and its handler
// are what every scraper is tested with.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"p2pcdn/common/mediation"
)

// namespace begins the name of every figure.
const namespace = "p2pcdn_mediator"

// maxScrapes bounds the requests that are answered at a time: each walks over everything.
const maxScrapes = 4

// Metrics is the counters of one mediator. Its methods may be called together.
type Metrics struct {
	registry *prometheus.Registry
	received *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

// New returns counters that are all zero.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "messages_received_total", Help: "Messages of peers that were taken, by type.",
		}, []string{"type"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "refusals_total",
			Help: "What was refused to peers and to other mediators, by the code that they were told.",
		}, []string{"code"}),
	}
	m.registry.MustRegister(m.received, m.refused, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Received counts a message that was taken.
func (m *Metrics) Received(message mediation.Message) {
	m.received.WithLabelValues(message.Type()).Inc()
}

// Refused counts a refusal. The codes are those of package mediation, so that there are few.
func (m *Metrics) Refused(code mediation.ErrorCode) { m.refused.WithLabelValues(string(code)).Inc() }

// Gauge adds a figure that is read whenever somebody asks.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, read))
}

// Counter adds a figure that only grows, and is read whenever somebody asks.
func (m *Metrics) Counter(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, read))
}

// Info adds a figure that is always one, for what it is labelled with.
func (m *Metrics) Info(name, help string, labels map[string]string) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels}, func() float64 { return 1 }))
}

// Totals returns the sums over all types and codes, and the codes by themselves.
func (m *Metrics) Totals() (received float64, refused map[string]float64) {
	refused = make(map[string]float64)
	families, _ := m.registry.Gather() // what cannot be read is not counted
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			switch family.GetName() {
			case namespace + "_messages_received_total":
				received += metric.GetCounter().GetValue()
			case namespace + "_refusals_total":
				refused[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
			}
		}
	}
	return received, refused
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, EnableOpenMetrics: true})
}
