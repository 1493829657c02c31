"""What notebooks need beyond the modules: data for their pictures, chosen without a look at results."""
