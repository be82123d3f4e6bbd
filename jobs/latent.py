"""Look at the latent space of predictions: maps, clusters, outliers, classifiers, neighbours.

    survey predict cemp input=FILES predictions=PREDICTIONS embeddings=true
    survey latent predictions=PREDICTIONS latent=FOLDER
    survey latent predictions=PREDICTIONS latent=FOLDER labels=TABLE classes=[class] like=[NAME]
    survey latent predictions=PREDICTIONS latent=FOLDER votes=GALAXY_ZOO statistics=SHAPES.parquet
    survey latent predictions=PREDICTIONS latent=FOLDER other=PREDICTIONS_OF_A_SECOND_SURVEY

Minutes, most of them for the maps umap and pacmap, which need a package each (pip install umap-learn pacmap);
a million rows of 40 features take three minutes of CPU and 1.1 GB. docs/latent.md says how to make the table
SHAPES.parquet. A finished folder of the same predictions, tables and settings is left as it is.
"""

from survey.command import report_errors, start
from survey.latent.settings import LatentSettings

if __name__ == "__main__":
    settings = start(LatentSettings, "latent", __doc__)
    with report_errors():
        from survey.latent.latent import look
        from survey.reports import latent as report

        result = look(settings)
        pictures = report.pictures(result)
    print(report.summary(result, pictures))
