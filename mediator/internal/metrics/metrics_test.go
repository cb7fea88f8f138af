package metrics

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"p2pcdn/common/mediation"
)

func TestScrape(t *testing.T) {
	m := New()
	m.Received(mediation.GetPeers{})
	m.Received(mediation.GetPeers{})
	m.Received(mediation.Announce{})
	m.Refused(mediation.CodeRateLimited)
	peers := 3.0
	m.Gauge("peers", "Peers that are connected.", func() float64 { return peers })
	m.Counter("relayed_bytes_total", "Bytes.", func() float64 { return 12 })
	m.Info("info", "Which mediator this is.", map[string]string{"version": "1.2"})
	peers = 4

	recorder := httptest.NewRecorder()
	m.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, _ := io.ReadAll(recorder.Body)
	for _, line := range []string{
		`p2pcdn_mediator_messages_received_total{type="get_peers"} 2`,
		`p2pcdn_mediator_messages_received_total{type="announce"} 1`,
		`p2pcdn_mediator_refusals_total{code="rate_limited"} 1`,
		`p2pcdn_mediator_peers 4`,
		`p2pcdn_mediator_relayed_bytes_total 12`,
		`p2pcdn_mediator_info{version="1.2"} 1`,
		`go_goroutines `,
		`process_resident_memory_bytes `,
	} {
		if !strings.Contains(string(body), "\n"+line) {
			t.Errorf("there is no line %q", line)
		}
	}
	received, refused := m.Totals()
	if received != 3 || len(refused) != 1 || refused["rate_limited"] != 1 {
		t.Errorf("the totals are %v and %v", received, refused)
	}
}
