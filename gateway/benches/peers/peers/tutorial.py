from flask import Flask, jsonify
from flask_jwt_extended import JWTManager, get_jwt, jwt_required

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_JWT_SECRET_KEY and its like
JWTManager(app)


@app.route("/")
@jwt_required()
def protected():
    return jsonify(message=f"Hello {get_jwt()['username']}, welcome to the protected page.")
