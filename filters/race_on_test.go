//go:build race

package filters_test

// mayAllocate is how often a match may allocate: with the race detector a sync.Pool forgets
// now and then what it was given.
const mayAllocate = 8
