// GitHub's description of its API, cut down to what cicd calls: the whole has 73 MB.
import { readFileSync, writeFileSync } from "node:fs";

const [whole, part] = process.argv.slice(2);
const calls = {
  "git/matching-refs/{ref}": ["get"],
  "git/refs": ["post"],
  "git/refs/{ref}": ["patch"],
  tags: ["get"],
  "git/commits": ["post"],
  "git/commits/{commit_sha}": ["get"],
  "git/trees": ["post"],
  releases: ["get", "post"],
  "releases/{release_id}": ["patch"],
  "releases/{release_id}/assets": ["post"],
  "releases/assets/{asset_id}": ["delete"],
  "releases/tags/{tag}": ["get"],
  "compare/{basehead}": ["get"],
  commits: ["get"],
  "contents/{path}": ["get"],
  "issues/{issue_number}/comments": ["get", "post"],
  "issues/comments/{comment_id}": ["patch", "delete"],
  deployments: ["get", "post"],
  "deployments/{deployment_id}/statuses": ["get", "post"],
};
const { openapi, info, servers, paths } = JSON.parse(readFileSync(whole, "utf8"));
const kept = {};
for (const [rest, methods] of Object.entries(calls)) {
  const path = `/repos/{owner}/{repo}/${rest}`;
  kept[path] = Object.fromEntries(methods.map((method) => [method, paths[path][method]]));
}
writeFileSync(part, JSON.stringify({ openapi, info, servers, paths: kept }));
