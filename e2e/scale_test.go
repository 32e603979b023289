package e2e

import (
	"bufio"
	"bytes"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// attempts is how many HTTP attempts a process has made.
func (p *process) attempts() int {
	_, body, err := p.get("/metrics")
	if err != nil {
		return 0
	}
	n := 0
	for scanner := bufio.NewScanner(bytes.NewReader(body)); scanner.Scan(); {
		if line := scanner.Text(); strings.HasPrefix(line, "relay_attempt_seconds_count{") {
			count, err := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
			require.NoError(p.t, err, line)
			n += count
		}
	}
	return n
}

// failsNowAndThen refuses the first attempt of every fifth delivery, so that there are
// retries to be shared, too.
func failsNowAndThen(d delivery) answer {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.ID))
	if d.Attempt == 1 && h.Sum32()%5 == 0 {
		return answer{status: http.StatusServiceUnavailable}
	}
	return answer{status: http.StatusOK}
}

func TestDeliveryGrowsAndShrinksUnderLoadWithoutLossOrNeedlessRepeats(t *testing.T) {
	t.Parallel()
	const limit, lane = 40, 4 // the quota of an hour, attempts at once to one endpoint
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "1s"
	if left := time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)); left < 2*time.Minute {
		<-time.After(left) // the test is about one hour of the clock
	}
	endpoints := make([]*endpoint, 4)
	for i := range endpoints {
		endpoints[i] = s.subscribe(hook{event: "thing.created"})
		endpoints[i].answers(failsNowAndThen)
	}
	limited := s.subscribe(hook{event: "thing.created", perHour: limit})
	capture := s.start("--role=capture")
	first, second := s.start("--role=deliver"), s.start("--role=deliver")

	load := s.startLoad(2, 20*time.Millisecond)
	load.awaitLoad(60)
	require.Eventually(t, func() bool { return first.attempts() > 0 && second.attempts() > 0 }, arrivesWithin, tick, "two share the work")
	third := s.start("--role=deliver")
	require.Eventually(t, func() bool { return third.attempts() > 0 }, arrivesWithin, tick, "a third one gets its part")
	require.Eventually(t, func() bool {
		return pgtest.One[int](s.db, `select count(*) from zapier_webhook_logs where webhook_id = $1`, limited.id) == limit
	}, arrivesWithin, tick, "the quota is used up")

	second.kill()
	// What came and is not in the log, and what was still on its way: that much may be sent again.
	open := len(endpoints) * lane
	for _, e := range endpoints {
		open += len(e.requests())
	}
	open -= pgtest.One[int](s.db, `select count(*) from zapier_webhook_logs where webhook_id <> $1`, limited.id)
	load.awaitLoad(60)
	load.stop()
	s.settleStream(capture)
	js := s.js(capture)
	require.Eventually(t, func() bool {
		return delivered(t, js) && pgtest.One[int](s.db, `select count(*) from webhook_deliveries where webhook_id <> $1`, limited.id) == 0
	}, 3*arrivesWithin, 5*tick, "deliveries do not come to an end")

	repeated := 0
	for _, e := range endpoints {
		repeated += load.checkDelivered(e, "thing.created")
	}
	t.Logf("%d transactions, %d sent again of %d that were open at the kill", load.written(), repeated, open)
	require.LessOrEqual(t, repeated, open)
	var created int
	for _, event := range load.expected() {
		if strings.HasPrefix(event, "thing.created ") {
			created++
		}
	}
	require.Len(t, limited.received(), limit, "exactly the quota, over three processes and a kill")
	require.Len(t, limited.requests(), limit)
	require.Equal(t, limit, pgtest.One[int](s.db, `select used from rate_limit_windows where scope = 'webhook' and key = $1`, limited.id))
	require.Equal(t, created-limit, pgtest.One[int](s.db, `select count(*) from webhook_deliveries where webhook_id = $1 and state = 'deferred'`, limited.id))

	first.stop()
	third.stop()
	capture.stop()
}
