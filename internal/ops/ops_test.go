package ops_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dot-do/relay/internal/ops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fixture struct {
	health   *ops.Health
	position *ops.Position
	metrics  *ops.Metrics
	url      string
}

func serve(t *testing.T, parts ...string) fixture {
	t.Helper()
	f := fixture{health: ops.NewHealth(parts...), position: &ops.Position{}}
	f.metrics = ops.NewMetrics(f.position, f.health)
	s, err := ops.Open(t.Context(), ops.Config{Listen: "127.0.0.1:0", Health: f.health, Position: f.position, Metrics: f.metrics, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		require.NoError(t, <-done)
	})
	f.url = "http://" + s.Addr()
	return f
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestReadyzAnswersTheWorstStateAndItsReason(t *testing.T) {
	f := serve(t, "capture", "deliver")
	code, body := get(t, f.url+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "starting")

	for _, tc := range []struct {
		capture, deliver ops.State
		code             int
		state            string
	}{
		{ops.Streaming, ops.Streaming, 200, "streaming"},
		{ops.Standby, ops.Streaming, 200, "standby"},
		{ops.Degraded, ops.Standby, 503, "degraded"},
		{ops.Halted, ops.Degraded, 503, "halted"},
	} {
		f.health.Set("capture", tc.capture, "why")
		f.health.Set("deliver", tc.deliver, "")
		code, body := get(t, f.url+"/readyz")
		require.Equal(t, tc.code, code)
		var got struct{ State, Reason string }
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		require.Equal(t, tc.state, got.State)
		if tc.capture != ops.Streaming {
			require.Equal(t, "capture: why", got.Reason)
		}
	}
}

func TestReadyzTellsTheReasonThatIsWorthTelling(t *testing.T) {
	f := serve(t, "capture", "deliver", "nats")
	f.health.Set("deliver", ops.Degraded, "postgres is away")
	for range 20 { // whatever the order of a map
		_, body := get(t, f.url+"/readyz")
		require.Contains(t, body, `"reason":"deliver: postgres is away"`)
	}
}

func TestPositionNeverGoesBack(t *testing.T) {
	f := serve(t)
	f.position.Received(0x16B3800)
	f.position.Published(0x16B3748, 7)
	f.position.Published(0, 8) // inside a transaction
	f.position.Confirmed(0x16B3700)
	f.position.Confirmed(0x100)
	_, body := get(t, f.url+"/v1/position")
	require.JSONEq(t, `{"received":"0/16B3800","published":"0/16B3748","confirmed":"0/16B3700","stream_seq":8,"lag_bytes":184}`, body)
}

func TestMetricsAreServed(t *testing.T) {
	f := serve(t, "capture")
	f.metrics.Changes(3)
	f.metrics.Refused("m1", true)
	f.metrics.Parked()
	f.metrics.LeftPublication()
	f.metrics.Unpublished(2)
	f.metrics.Outcome("delivered", 1)
	f.metrics.Subscriptions(9, 3, 2)
	f.metrics.Slot(640, 1024, 90*time.Second, 4)
	_, body := get(t, f.url+"/metrics")
	for _, line := range []string{
		"relay_changes_total 3", "relay_rows_parked_total 1", "relay_tables_left_publication_total 1", "relay_tables_unpublished 2", `relay_mapping_refused{mapping="m1"} 1`, `relay_delivery_outcomes_total{outcome="delivered"} 1`, "relay_ready 0",
		`relay_subscriptions{state="usable"} 6`, `relay_subscriptions{state="broken"} 3`, "relay_filters_quarantined 2",
		"relay_slot_retained_bytes 640", "relay_slot_budget_bytes 1024", "relay_open_transaction_seconds 90", "relay_heartbeats_total 4",
	} {
		require.Contains(t, body, line)
	}
	code, body := get(t, f.url+"/livez")
	require.Equal(t, 200, code)
	require.Equal(t, "ok\n", body)
}

func TestATakenPortNamesTheAddressAndTheRemedy(t *testing.T) {
	f := serve(t)
	_, err := ops.Open(t.Context(), ops.Config{Listen: f.url[len("http://"):], Logger: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "RELAY_LISTEN")
	require.ErrorContains(t, err, "127.0.0.1:")
}
