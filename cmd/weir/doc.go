// Command weir is a Kafka-compatible message broker, its load generator and its tools in one binary.
package main
