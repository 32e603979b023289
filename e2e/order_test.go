package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// inOrder makes the subscription strict.
func (s *stack) inOrder(e *endpoint) {
	s.db.Exec(`update zapier_webhooks set zapier_metadata = zapier_metadata || '{"ordering": "key"}' where id = $1`, e.id)
}

// touch updates a thing n times, in transactions of their own.
func (s *stack) touch(id string, from, to int) {
	for n := from; n <= to; n++ {
		s.db.Exec(`update things set data = jsonb_build_object('n', $2::integer) where id = $1`, id, n)
	}
}

// steps are the numbers of a thing's updates as they arrived, those that were answered
// with an error too.
func steps(t *testing.T, calls []delivery, id string) (out []int) {
	for _, d := range calls {
		var data struct {
			ID   string
			Data struct{ N int }
		}
		require.NoError(t, json.Unmarshal(d.Event.Data, &data))
		if data.ID == id {
			out = append(out, data.Data.N)
		}
	}
	return out
}

func TestDeliveriesOfAKeyKeepTheirOrderOverTwoProcesses(t *testing.T) {
	t.Parallel()
	const keys, updates = 4, 15
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "300ms"
	retries := 40
	strict := s.subscribe(hook{event: "thing.updated", retries: &retries})
	s.inOrder(strict)
	loose := s.subscribe(hook{event: "thing.updated"})

	// Of one thing the third update fails a few times: it holds up that thing alone.
	var mu sync.Mutex
	failed := 0
	strict.answers(func(d delivery) answer {
		mu.Lock()
		defer mu.Unlock()
		if got := steps(t, []delivery{d}, "k0"); len(got) == 1 && got[0] == 3 && failed < 4 {
			failed++
			return answer{status: http.StatusServiceUnavailable}
		}
		return answer{status: http.StatusOK}
	})
	for k := range keys {
		s.insertThings(fmt.Sprintf("k%d", k))
	}
	first := s.start()
	second := s.start("--role=deliver")
	var writers sync.WaitGroup
	for k := range keys {
		writers.Go(func() { s.touch(fmt.Sprintf("k%d", k), 1, updates) })
	}
	writers.Wait()
	loose.await(keys * updates)
	require.Eventually(t, func() bool {
		return len(strict.requests()) >= keys*updates+4 && pgtest.One[int](s.db, `select count(*) from webhook_deliveries`) == 0
	}, time.Minute, 50*time.Millisecond)
	for k := range keys {
		got := steps(t, strict.requests(), fmt.Sprintf("k%d", k))
		want := make([]int, 0, updates+4)
		for n := 1; n <= updates; n++ {
			want = append(want, n)
			for i := 0; k == 0 && n == 3 && i < 4; i++ {
				want = append(want, n)
			}
		}
		require.Equal(t, want, got)
	}
	s.settle(first)
	second.stop()
	first.stop()
}
