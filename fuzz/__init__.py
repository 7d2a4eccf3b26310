"""What users run: campaigns, the gate, minimisation, triage and reports."""
