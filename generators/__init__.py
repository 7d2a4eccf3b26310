"""Make cases: networks grown operator by operator, tensor values, mutations."""
