package natsstream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

const (
	eventPrefix     = "events."
	eventSubjects   = eventPrefix + ">"
	controlSubjects = relay.ControlPrefix + ">"

	// smallestPayload leaves as much for the body as for the headers.
	smallestPayload = 2 * headerRoom
)

// EnsureStream makes the stream when it is missing. A stream that exists is used
// as it is, or refused with a *relay.SetupError that names the setting: the relay
// never changes somebody's stream.
func (c *Client) EnsureStream(ctx context.Context) error {
	err := c.CheckStream(ctx)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	ctx, cancel := c.session(ctx)
	defer cancel()
	account, err := c.js.AccountInfo(ctx)
	if err != nil {
		return fmt.Errorf("create stream %s: %w", c.cfg.Stream, err)
	}
	_, err = c.js.CreateStream(ctx, c.wantedStream(account.API.Level))
	var api *jetstream.APIError
	switch {
	case err == nil:
		c.log.InfoContext(ctx, "stream created", "stream", c.cfg.Stream)
		return nil
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another process was faster
		return c.CheckStream(ctx)
	case errors.As(err, &api) && api.ErrorCode == codeSubjectsOverlap:
		return setupErrorf("set RELAY_STREAM to the stream that has them, or free the subjects (nats stream ls)",
			"stream %s cannot be made: another stream has %s or %s already", c.cfg.Stream, eventSubjects, controlSubjects)
	}
	return fmt.Errorf("create stream %s: %w", c.cfg.Stream, err)
}

const codeSubjectsOverlap = 10065

// wantedStream is the stream as the relay makes it: it refuses new events when it
// is full rather than drop old ones, and nothing but age removes an event. Batches are
// asked for where the server's API has them.
func (c *Client) wantedStream(level int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        c.cfg.Stream,
		Description: "events of the relay; the relay is its only writer",
		Subjects:    []string{eventSubjects, controlSubjects},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxAge:      c.cfg.MaxAge,
		MaxBytes:    c.cfg.MaxBytes,
		Storage:     jetstream.FileStorage,
		Replicas:    c.cfg.Replicas,
		Duplicates:  min(c.cfg.Duplicates, c.cfg.MaxAge),
		DenyDelete:  true,
		DenyPurge:   true,

		AllowAtomicPublish: level >= 2, // NATS 2.12
		AllowBatchPublish:  level >= 4, // NATS 2.14
	}
}

// CheckStream tells whether the stream that exists can carry the relay's promise:
// nil, a *relay.SetupError that names the difference, or an error around
// jetstream.ErrStreamNotFound.
func (c *Client) CheckStream(ctx context.Context) error {
	ctx, cancel := c.session(ctx)
	defer cancel()
	info, err := c.info(ctx)
	if err != nil {
		return err
	}
	if what, remedy := unfit(&info.Config); what != "" {
		return setupErrorf(remedy, "stream %s %s", c.cfg.Stream, what)
	}
	if limit := c.nc.MaxPayload(); limit < smallestPayload {
		return setupErrorf("raise max_payload of the NATS server to 1MB or more", "NATS takes messages of %d bytes only, headers included", limit)
	}
	return nil
}

// unfit names what in the settings breaks the promise, and the way out.
func unfit(s *jetstream.StreamConfig) (what, remedy string) {
	const another = "set RELAY_STREAM to another name and let the relay make it, or make the stream anew"
	for _, subject := range []string{eventSubjects, controlSubjects} {
		if !covered(subject, s.Subjects) {
			return "does not take " + subject, "add the subject: nats stream edit " + s.Name + ", or set RELAY_STREAM to another name"
		}
	}
	dropsOld := s.Discard == jetstream.DiscardOld && (s.MaxBytes > 0 || s.MaxMsgs > 0)
	switch {
	case s.Storage == jetstream.MemoryStorage:
		return "is kept in memory: a restart of NATS would lose events", another
	case s.PersistMode == jetstream.AsyncPersistMode:
		return "acknowledges before it writes (persist mode async)", another
	case s.NoAck:
		return "does not acknowledge messages (no_ack)", another
	case s.Mirror != nil || len(s.Sources) > 0:
		return "takes messages from another stream: the relay must be its only writer", another
	case s.Sealed:
		return "is sealed", another
	case s.Retention != jetstream.LimitsPolicy:
		return "removes events once they are read (retention " + s.Retention.String() + "), also for other subscribers", another
	case dropsOld:
		return "drops old events when it is full (discard old)", "set discard to new: nats stream edit " + s.Name
	case s.MaxMsgSize > 0 && s.MaxMsgSize < smallestPayload:
		return "takes small messages only (max_msg_size)", "set it to -1: nats stream edit " + s.Name
	case s.MaxMsgsPerSubject > 0:
		return "drops old events of a type (max_msgs_per_subject)", "set it to -1: nats stream edit " + s.Name
	case s.SubjectTransform != nil:
		return "renames subjects (subject_transform)", another
	}
	return "", ""
}

// covered reports whether one of the patterns takes every subject that want, a
// pattern itself, stands for.
func covered(want string, patterns []string) bool {
	for _, pattern := range patterns {
		if covers(strings.Split(pattern, "."), strings.Split(want, ".")) {
			return true
		}
	}
	return false
}

func covers(pattern, want []string) bool {
	for i, token := range pattern {
		switch {
		case token == ">":
			return i < len(want)
		case i >= len(want) || want[i] == ">":
			return false
		case token != "*" && token != want[i]:
			return false
		}
	}
	return len(pattern) == len(want)
}
