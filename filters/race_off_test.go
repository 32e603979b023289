//go:build !race

package filters_test

// mayAllocate is how often a match may allocate.
const mayAllocate = 0
