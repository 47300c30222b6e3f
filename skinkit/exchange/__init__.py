"""Results in the formats of a hospital's own systems: FHIR bundles and DICOM objects."""
