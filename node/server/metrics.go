package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sallyport/cluster"
)

// metrics are what the node tells Prometheus. Label values come from fixed sets.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

func newMetrics(c *cluster.Node) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sallyport_request_duration_seconds",
			Help:    "Time from the arrival of an MCP request to the end of its answer, by method and outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "outcome"}),
	}
	m.registry.MustRegister(
		m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("sallyport_raft_applied_index", "Index of the last log entry that this node reflects.", func() float64 { return float64(c.State().Applied()) }),
		gauge("sallyport_raft_leader", "1 if this node leads.", func() float64 { return boolean(c.Status().State == "Leader") }),
		gauge("sallyport_staleness_seconds", "Proved age of this node's state; -1 without a proof.", func() float64 {
			age, ok := c.Freshness().Staleness()
			if !ok {
				return -1
			}
			return age.Seconds()
		}),
		gauge("sallyport_disk_low", "1 if the disk has reached its reserve.", func() float64 { return boolean(c.Disk().Low()) }),
	)
	return m
}

func gauge(name, help string, read func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Request implements gateway.Observer.
func (m *metrics) Request(method, outcome string, took time.Duration) {
	m.requests.WithLabelValues(method, outcome).Observe(took.Seconds())
}
