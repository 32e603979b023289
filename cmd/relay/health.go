package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/dot-do/relay/internal/config"
)

type healthCmd struct {
	Timeout time.Duration `help:"How long to wait for an answer." default:"3s"`
}

// reachable is where a relay with these settings answers on this machine.
func reachable(cfg config.Config) (string, error) {
	listen := cfg.Listen
	host, port, err := net.SplitHostPort(listen)
	if err == nil && port == "0" {
		var chosen ports
		if chosen, err = readPorts(cfg.PortFile); err != nil {
			return "", err
		}
		listen = chosen.Listen
		host, port, err = net.SplitHostPort(listen)
	}
	if err != nil {
		return "", fmt.Errorf("the relay's address %q: %w", listen, err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// Run asks /readyz of the configured address and fails unless it answers 200.
// Only the address is read from the settings, so that a health check needs
// nothing else.
func (c *healthCmd) Run(ctx context.Context, a *app) error {
	cfg, _ := config.Load(a.configPath, a.environ) // what is wrong, the relay itself has said
	address, err := reachable(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		if timeout := ctx.Err(); timeout != nil {
			return fmt.Errorf("ask %s: no answer within %s; is that a relay, and is it overloaded?", address, c.Timeout)
		}
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op
		}
		return fmt.Errorf("ask %s: %w; is relay run up, and RELAY_LISTEN its address?", address, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<10))
	if err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	var report struct{ State, Reason string }
	if err := json.Unmarshal(body, &report); err != nil {
		return fmt.Errorf("what listens on %s does not answer like a relay; check RELAY_LISTEN", address)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s (%s)", report.State, report.Reason)
	}
	_, err = fmt.Fprintln(a.stdout, report.State)
	return err
}
