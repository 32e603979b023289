package relaytest_test

import (
	"testing"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
)

func TestParkingInMemoryKeepsThePromises(t *testing.T) {
	relaytest.ParkingSuite(t, func(*testing.T) relaytest.ParkingFixture {
		m := relaytest.NewMemory(relay.NewCatalog())
		return relaytest.ParkingFixture{Parking: m, Parked: m.Parked, Release: m.Release}
	})
}
