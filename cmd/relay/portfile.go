package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ports is the content of RELAY_PORT_FILE.
type ports struct {
	Listen string `json:"listen"`
	NATS   string `json:"nats,omitempty"`
}

// writePorts writes the file at once, so that a reader never sees half of it.
func writePorts(path string, p ports) error {
	if path == "" {
		return nil
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".relay-ports-*")
	if err != nil {
		return fmt.Errorf("write the port file: %w; check RELAY_PORT_FILE", err)
	}
	defer os.Remove(tmp.Name()) // gone already when renamed
	if _, err := tmp.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("write the port file: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write the port file: %w", err)
	}
	if err := os.Chmod(tmp.Name(), 0o644); err != nil { //nolint:gosec // ports are for others to read
		return fmt.Errorf("write the port file: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write the port file: %w", err)
	}
	return nil
}

// readPorts reads what a running relay wrote.
func readPorts(path string) (p ports, err error) {
	if path == "" {
		return p, errors.New("RELAY_LISTEN has port 0, and which one the relay chose is not known; set RELAY_PORT_FILE for it and for this command")
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("read the port file: %w; is relay run up, and RELAY_PORT_FILE its file?", err)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("read the port file %s: %w", path, err)
	}
	return p, nil
}
