package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
)

// Pace of claiming.
const (
	claimLimit  = 128                    // deliveries in one claim
	claimsHeld  = 512                    // claimed and not settled
	pollIdle    = 2 * time.Second        // when the ledger knows of nothing due
	pollBusy    = 250 * time.Millisecond // when what is due cannot be taken
	pollSoon    = 10 * time.Millisecond  // when something is due and was not there to take
	absentPause = time.Second            // before a subscription that is not in the directory is claimed again
)

// claims counts the due deliveries that are held under a lease, and knows when
// this process itself made something due.
type claims struct {
	mu     sync.Mutex
	leases map[string]int
	held   int
	due    time.Time            // earliest retry written here since the last poll
	absent map[string]time.Time // subscriptions that the directory did not know
	wake   chan struct{}        // due moved
	freed  chan struct{}        // there is room again

	fruitless int // claims in a row that brought nothing though something was due; used by claimDue only
}

func newClaims() *claims {
	return &claims{leases: map[string]int{}, absent: map[string]time.Time{}, wake: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
}

func (c *claims) begin(lease string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		c.leases[lease] += n
		c.held += n
	}
}

func (c *claims) end(lease string, n int) {
	c.mu.Lock()
	halved := c.held > claimsHeld/2
	c.held -= n
	halved = halved && c.held <= claimsHeld/2
	if c.leases[lease] -= n; c.leases[lease] <= 0 {
		delete(c.leases, lease)
	}
	c.mu.Unlock()
	if halved {
		signal(c.freed)
	}
}

func (c *claims) room() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(claimsHeld-c.held, claimLimit)
}

func (c *claims) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

func (c *claims) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]string, 0, len(c.leases))
	for lease := range c.leases {
		out = append(out, lease)
	}
	return out
}

// wrote tells that a delivery is due after delay.
func (c *claims) wrote(delay time.Duration) {
	at := time.Now().Add(delay)
	c.mu.Lock()
	sooner := c.due.IsZero() || at.Before(c.due)
	if sooner {
		c.due = at
	}
	c.mu.Unlock()
	if sooner {
		signal(c.wake)
	}
}

// written takes the earliest time that wrote told of.
func (c *claims) written() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.due
}

func (c *claims) forgetWritten() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = time.Time{}
}

// missed remembers a subscription that the directory does not know yet.
func (c *claims) missed(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent[id] = time.Now().Add(absentPause)
}

// unknown returns the subscriptions that were missed a moment ago.
func (c *claims) unknown() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for id, until := range c.absent {
		if time.Now().After(until) {
			delete(c.absent, id)
			continue
		}
		out = append(out, id)
	}
	return out
}

// claimDue takes due deliveries from the ledger into the lanes until ctx ends.
func (e *Engine) claimDue(ctx context.Context) error {
	for ctx.Err() == nil {
		var wait time.Duration
		var failed error
		err := retry(ctx, e.log, "claim due deliveries", func() error {
			if failed != nil {
				// Leases may have run out while the ledger was away. What they cover is still
				// held here, perhaps attempted and not recorded: it must not be claimed again.
				e.renew(ctx)
			}
			wait, failed = e.claimOnce(ctx)
			return failed
		})
		if err != nil {
			return stopped(ctx, err)
		}
		e.sleepUntilDue(ctx, time.Now().Add(wait))
	}
	return nil
}

// sleepUntilDue waits until next, or until something is due earlier because this
// process wrote it, or until there is room again.
func (e *Engine) sleepUntilDue(ctx context.Context, next time.Time) {
	for {
		until := next
		if due := e.claims.written(); !due.IsZero() && due.Before(until) {
			until = due
		}
		wait := time.Until(until)
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-e.claims.wake:
		case <-e.claims.freed:
			next = time.Now()
		case <-ctx.Done():
			next = time.Now()
		}
		timer.Stop()
	}
}

// claimOnce claims as much as there is room for and returns how long to wait.
func (e *Engine) claimOnce(ctx context.Context) (time.Duration, error) {
	e.claims.forgetWritten() // also when there is no room: what is due would end every sleep at once
	room := e.claims.room()
	if room <= 0 {
		return pollBusy, nil
	}
	due, lease, err := e.cfg.Ledger.Claim(ctx, room, e.hold(), e.busy())
	if err != nil {
		return 0, err
	}
	e.claims.begin(lease, len(due))
	if err := e.place(ctx, due, lease); err != nil {
		return 0, err
	}
	if err := e.claimProbes(ctx); err != nil {
		return 0, err
	}
	if len(due) > 0 {
		e.claims.fruitless = 0
	}
	if len(due) == room {
		return 0, nil
	}
	busy := e.busy()
	wait, some, err := e.cfg.Ledger.NextDue(ctx, busy)
	if err != nil {
		return 0, err
	}
	longest := pollIdle
	if len(busy.All) > 0 {
		longest = pollBusy
	}
	if !some {
		return longest, nil
	}
	if wait > 0 {
		e.claims.fruitless = 0
		return min(max(wait, pollSoon), longest), nil
	}
	// It became due this moment, or somebody has its row locked, who knows how long.
	wait = min(pollSoon<<e.claims.fruitless, pollBusy)
	e.claims.fruitless = min(e.claims.fruitless+1, 8)
	return wait, nil
}

// claimProbes takes one delivery for each endpoint that may be asked whether it works
// again.
func (e *Engine) claimProbes(ctx context.Context) error {
	subs := e.lanes.probes()
	if len(subs) == 0 {
		return nil
	}
	due, lease, err := e.cfg.Ledger.ClaimOne(ctx, subs[:min(len(subs), claimLimit)], e.hold(), e.order.floor.Load())
	if err != nil {
		return err
	}
	e.claims.begin(lease, len(due))
	return e.place(ctx, due, lease)
}

// busy names the subscriptions that nothing is to be claimed of.
func (e *Engine) busy() relay.Busy {
	return relay.Busy{All: append(e.lanes.busy(), e.claims.unknown()...), Fresh: e.quota.spent(), Floor: e.order.floor.Load()}
}

// place puts claimed deliveries into their lanes and gives back what does not
// fit: their subscriptions are busy, so the next claim passes them over.
func (e *Engine) place(ctx context.Context, due []relay.Delivery, lease string) error {
	s, err := e.drawQuota(ctx, due)
	if err != nil {
		e.free(ctx, lease, due)
		return err
	}
	defer func() { e.quota.refund(s) }()
	var back []relay.Delivery
	for _, d := range due {
		if e.dir.get(d.SubscriptionID) == nil {
			e.claims.missed(d.SubscriptionID)
			back = append(back, d)
			continue
		}
		t := &task{delivery: d, lease: lease}
		if !e.count(t, &s) {
			continue
		}
		if _, ok := e.lanes.put(t); !ok {
			e.uncount(t)
			back = append(back, d)
		}
	}
	e.free(ctx, lease, back)
	return nil
}

// free gives claimed deliveries back, also when ctx has ended.
func (e *Engine) free(ctx context.Context, lease string, back []relay.Delivery) {
	if len(back) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	e.freeWithin(ctx, lease, back)
}

func (e *Engine) freeWithin(ctx context.Context, lease string, back []relay.Delivery) {
	if err := e.cfg.Ledger.Free(ctx, lease, back); err != nil {
		e.log.Warn("claimed deliveries cannot be given back, their lease runs out instead", "error", err, "deliveries", len(back))
	}
	e.claims.end(lease, len(back))
}

// hold is how long a claim is leased: a process that dies keeps what it claimed
// for so long.
func (e *Engine) hold() time.Duration { return e.cfg.HTTPTimeout + 2*maxWait }

// keepLeases renews the leases until ctx ends.
func (e *Engine) keepLeases(ctx context.Context) {
	ticker := time.NewTicker(e.hold() / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			e.renew(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// renew keeps the leases of what waits or runs here.
func (e *Engine) renew(ctx context.Context) {
	leases := e.claims.names()
	if len(leases) == 0 {
		return
	}
	if err := e.cfg.Ledger.Renew(ctx, leases, e.hold()); err != nil && ctx.Err() == nil {
		e.log.Warn("leases cannot be renewed", "error", err, "leases", len(leases))
	}
}
