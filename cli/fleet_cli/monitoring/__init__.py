"""Alerts and dashboards, printed from the contract into manifests/components/monitoring."""
