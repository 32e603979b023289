package relaytest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
)

func TestLedgerInMemoryKeepsTheContract(t *testing.T) {
	relaytest.LedgerSuite(t, func(*testing.T) relaytest.LedgerFixture {
		subs := relaytest.NewSubscriptions()
		ledger := relaytest.NewLedger(subs)
		made := 0
		return relaytest.LedgerFixture{
			Ledger: ledger,
			Subscribe: func(*testing.T) string {
				made++
				id := fmt.Sprintf("sub-%d", made)
				subs.Put(relay.Subscription{ID: id, Active: true})
				return id
			},
			SetActive: func(_ *testing.T, id string, active bool) { subs.SetActive(id, active) },
			Delete:    func(_ *testing.T, id string) { subs.Delete(id) },
			Active: func(t *testing.T, id string) bool {
				rows, _ := subs.Read(t.Context(), []string{id})
				return len(rows) == 1 && rows[0].Active
			},
			Attempts: func(_ *testing.T, id string) []string {
				var out []string
				for _, o := range ledger.Log(id) {
					status := map[relay.OutcomeKind]string{
						relay.Delivered: "success", relay.Retry: "retrying", relay.Dead: "dead", relay.Gone: "dead", relay.Skipped: "skipped",
					}[o.Kind]
					out = append(out, fmt.Sprintf("%d %s", o.Attempt.Number, status))
				}
				return out
			},
			DeadLetters: func(_ *testing.T, id string) int { return len(ledger.Dead(id)) },
			Elapse:      func(_ *testing.T, d time.Duration) { ledger.Elapse(d) },
		}
	})
}
