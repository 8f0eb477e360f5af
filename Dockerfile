# docker build -t tpt . && docker run --rm -p 7860:7860 tpt          the page, at port 7860
# docker run --rm -v "$PWD/runs:/data/runs" tpt tpt-test             any program
FROM python:3.12-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE app.py ./
COPY conf conf
COPY src src
RUN pip install --no-cache-dir ".[demo]" && useradd --create-home user && mkdir /data && chown user /data
USER user
WORKDIR /data
EXPOSE 7860
CMD ["python", "/app/app.py"]
