"""A session server for AI agents, deployed into your own AWS account."""
