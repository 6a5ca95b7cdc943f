# The habits, for people who like make. Each line is a command that works without it.
.PHONY: build test race fuzz lint bench clients check
build:      ; CGO_ENABLED=0 go build -o weir ./cmd/weir
test:       ; go test ./...
race:       ; .ci/run race
fuzz:       ; .ci/run fuzz
lint:       ; .ci/run format && go test ./internal/lint
bench:      ; go run ./cmd/weir bench
clients:    ; scripts/clients/run
check:      ; .ci/run
