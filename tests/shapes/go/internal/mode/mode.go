// Package mode says how the service was told to run.
package mode

import "os"

// Current is the mode of this process.
func Current() string { return os.Getenv("APP_MODE") }
